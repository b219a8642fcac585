//! The user that PostgreSQL runs as, and directories that this user can access.
//!
//! PostgreSQL refuses to run as root. Started by root, as in most containers, it runs as the user `postgres`
//! or `nobody`. Since these users cannot access root's own directories, its files are then stored under
//! `/var/tmp`, at a path that a file in the data directory records.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::fs;
use tokio::process::Command;

/// The user that PostgreSQL's processes run as.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// The ids of the user and its group; `None` means the current user.
    other: Option<(u32, u32)>,
}

impl User {
    /// The current user, or for root an unprivileged user.
    ///
    /// # Errors
    /// If there is no unprivileged user.
    pub async fn for_postgres() -> Result<Self> {
        if id(&["-u"]).await != Some(0) {
            return Ok(Self { other: None });
        }
        for name in ["postgres", "nobody"] {
            if let (Some(user), Some(group)) = (id(&["-u", name]).await, id(&["-g", name]).await) {
                return Ok(Self { other: Some((user, group)) });
            }
        }
        bail!("PostgreSQL cannot run as root, and neither a user 'postgres' nor 'nobody' exists to run it as")
    }

    /// The owner of `path` if this program runs as root, so that root can start a cluster of another user.
    #[must_use]
    pub fn or_owner_of(self, path: &Path) -> Self {
        match (self.other, path.metadata()) {
            (Some(_), Ok(metadata)) if metadata.uid() != 0 => Self { other: Some((metadata.uid(), metadata.gid())) },
            _ => self,
        }
    }

    /// Makes `command` run as this user, in a working directory that every user can access.
    pub fn take_on(&self, command: &mut Command) {
        if let Some((user, group)) = self.other {
            command.uid(user).gid(group);
        }
        command.current_dir("/");
    }

    /// Whether `test OPERATOR PATH` succeeds for this user, for example with `-x`.
    pub async fn can(&self, operator: &str, path: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"test "$1" "$2""#, "test", operator]).arg(path).stderr(Stdio::null());
        self.take_on(&mut command);
        command.status().await.is_ok_and(|status| status.success())
    }

    /// A directory for this user alone: `dir/name`, or one under `/var/tmp` if the user cannot access that.
    /// Returns the same directory each time.
    ///
    /// # Errors
    /// If the directory cannot be created.
    pub async fn directory(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        if let Some(elsewhere) = elsewhere(dir, name).await {
            return Ok(elsewhere);
        }
        let inside = dir.join(name);
        fs::create_dir_all(&inside).await.with_context(|| format!("cannot create {}", inside.display()))?;
        self.own(&inside).await?;
        if self.can("-w", &inside).await {
            return Ok(inside);
        }
        fs::remove_dir(&inside).await.with_context(|| {
            format!(
                "the owner of {} can no longer access it: delete it, or fix its parents' permissions",
                inside.display()
            )
        })?;
        // An unpredictable name, since every user can write to this directory.
        let outside = PathBuf::from(format!("/var/tmp/crm-dev-{:016x}", rand::random::<u64>()));
        fs::create_dir(&outside).await.with_context(|| format!("cannot create {}", outside.display()))?;
        self.own(&outside).await?;
        fs::write(note(dir, name), outside.as_os_str().as_encoded_bytes()).await?;
        Ok(outside)
    }

    /// Makes this user the owner of `path`, and revokes all access of others.
    ///
    /// # Errors
    /// If another user owns the path.
    pub async fn own(&self, path: &Path) -> Result<()> {
        let change = async {
            if let Some((user, group)) = self.other {
                chown(path, Some(user), Some(group))?;
            }
            let mode = if path.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(path, PermissionsExt::from_mode(mode)).await
        };
        change.await.with_context(|| format!("{} belongs to another user", path.display()))
    }
}

/// Deletes the directory that [`User::directory`] made, if there is one.
///
/// # Errors
/// If it cannot be deleted.
pub async fn remove_directory(dir: &Path, name: &str) -> Result<()> {
    if let Some(elsewhere) = elsewhere(dir, name).await {
        remove(&elsewhere).await?;
        remove(&note(dir, name)).await?;
    }
    remove(&dir.join(name)).await
}

/// Deletes a file, or a directory with its content, if it exists.
///
/// # Errors
/// If it cannot be deleted.
pub async fn remove(path: &Path) -> Result<()> {
    let removed = if path.is_dir() { fs::remove_dir_all(path).await } else { fs::remove_file(path).await };
    match removed {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot delete {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// The file that records the path of a directory outside `dir`.
fn note(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}-is-at"))
}

async fn elsewhere(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(fs::read_to_string(note(dir, name)).await.ok()?);
    path.is_dir().then_some(path)
}

/// A number that the program `id` prints.
async fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().await.ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
