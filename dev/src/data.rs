//! The directory in which a local stack keeps its data.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::fs;

/// The directory of one stack, ours alone while this value lives.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens the directory, and makes it if need be. A relative path starts in the workspace.
    ///
    /// # Errors
    /// If a stack is running on it.
    pub async fn open(path: &Path) -> Result<Self> {
        let path = crate::workspace::root().join(path);
        let cannot = || format!("cannot use the data directory {}", path.display());
        fs::create_dir_all(&path).await.with_context(cannot)?;
        let lock = File::create(path.join("lock")).with_context(cannot)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("a stack is running on {}: stop it first, or name another with --data-dir", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of one of its files, if it is there.
    pub async fn read(&self, name: &str) -> Option<String> {
        Some(fs::read_to_string(self.path.join(name)).await.ok()?.trim().to_owned())
    }

    /// Writes one of its files, as a line that only its owner can read.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        // Under its own name from the start, a script might read half of it.
        let (path, partial) = (self.path.join(name), self.path.join(format!("{name}.partial")));
        let write = || -> std::io::Result<()> {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            writeln!(file, "{content}")?;
            std::fs::rename(&partial, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}
