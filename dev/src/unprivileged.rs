//! The user that PostgreSQL's processes run as, and directories this user can reach.
//!
//! PostgreSQL refuses to run as root. Started by root, as in most containers, it runs as the user
//! `postgres`, or `nobody`; and since root's own directories are closed to these, its files then
//! lie under `/var/tmp`, which a note in the data directory remembers.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::fs;
use tokio::process::Command;

/// Whom PostgreSQL's processes run as.
#[derive(Debug, Clone, Copy)]
pub struct User {
    /// The user's and its group's number; None is whoever runs this program.
    other: Option<(u32, u32)>,
}

impl User {
    /// Whoever runs this program, or for root one of the users made for such a purpose.
    ///
    /// # Errors
    /// If there is no such user.
    pub async fn for_postgres() -> Result<Self> {
        if id(&["-u"]).await != Some(0) {
            return Ok(Self { other: None });
        }
        for name in ["postgres", "nobody"] {
            if let (Some(user), Some(group)) = (id(&["-u", name]).await, id(&["-g", name]).await) {
                return Ok(Self { other: Some((user, group)) });
            }
        }
        bail!("PostgreSQL does not run as root, and there is neither a user 'postgres' nor 'nobody' to run it as")
    }

    /// The owner of `path`, if root may take on that user; so root can run what another user set up.
    #[must_use]
    pub fn or_owner_of(self, path: &Path) -> Self {
        match (self.other, path.metadata()) {
            (Some(_), Ok(metadata)) if metadata.uid() != 0 => Self { other: Some((metadata.uid(), metadata.gid())) },
            _ => self,
        }
    }

    /// Makes `command` run as this user. Its working directory is one that everybody can enter.
    pub fn take_on(&self, command: &mut Command) {
        if let Some((user, group)) = self.other {
            command.uid(user).gid(group);
        }
        command.current_dir("/");
    }

    /// Whether this user passes `test OPERATOR PATH`, `-x` for instance.
    pub async fn can(&self, operator: &str, path: &Path) -> bool {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"test "$1" "$2""#, "test", operator]).arg(path).stderr(Stdio::null());
        self.take_on(&mut command);
        command.status().await.is_ok_and(|status| status.success())
    }

    /// A directory for this user alone: `dir/name`, or one under `/var/tmp` if the user cannot
    /// reach that. The same one each time.
    ///
    /// # Errors
    /// If it cannot be made.
    pub async fn directory(&self, dir: &Path, name: &str) -> Result<PathBuf> {
        if let Some(elsewhere) = elsewhere(dir, name).await {
            return Ok(elsewhere);
        }
        let inside = dir.join(name);
        fs::create_dir_all(&inside).await.with_context(|| format!("cannot make {}", inside.display()))?;
        self.own(&inside).await?;
        if self.can("-w", &inside).await {
            return Ok(inside);
        }
        fs::remove_dir(&inside).await.with_context(|| {
            format!("{} belongs to a user who can no longer reach it: delete it, or open its parents", inside.display())
        })?;
        // A new name that nobody can foresee, since everybody may write to this directory.
        let outside = PathBuf::from(format!("/var/tmp/crm-dev-{:016x}", rand::random::<u64>()));
        fs::create_dir(&outside).await.with_context(|| format!("cannot make {}", outside.display()))?;
        self.own(&outside).await?;
        fs::write(note(dir, name), outside.as_os_str().as_encoded_bytes()).await?;
        Ok(outside)
    }

    /// Gives `path` to this user, and closes it to others.
    ///
    /// # Errors
    /// If it belongs to somebody else.
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

/// Deletes a file, or a directory with all that is in it, if it is there.
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

/// The file that remembers where a directory outside `dir` is.
fn note(dir: &Path, name: &str) -> PathBuf {
    dir.join(format!("{name}-is-at"))
}

async fn elsewhere(dir: &Path, name: &str) -> Option<PathBuf> {
    let path = PathBuf::from(fs::read_to_string(note(dir, name)).await.ok()?);
    path.is_dir().then_some(path)
}

/// A number that `id` tells.
async fn id(arguments: &[&str]) -> Option<u32> {
    let output = Command::new("id").args(arguments).stderr(Stdio::null()).output().await.ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}
