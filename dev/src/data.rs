//! The data directory of a local stack.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use tokio::fs;

/// The directory of the servers of Citus.
pub const CITUS: &str = "citus";

/// The data directory of a stack, locked until this value is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: File,
}

impl DataDir {
    /// Opens the directory; creates it if it does not exist. A relative path is relative to the workspace.
    ///
    /// # Errors
    /// If a stack is running in it.
    pub async fn open(path: &Path) -> Result<Self> {
        let path = testing::workspace::root().join(path);
        let cannot = || format!("cannot use the data directory {}", path.display());
        fs::create_dir_all(&path).await.with_context(cannot)?;
        let lock = File::create(path.join("lock")).with_context(cannot)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(TryLockError::WouldBlock) => {
                bail!("a stack is running on {}: stop it first, or use another directory (--data-dir)", path.display())
            }
            Err(TryLockError::Error(error)) => Err(error).with_context(cannot),
        }
    }

    /// The path of the directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The content of a file, if the file exists.
    pub async fn read(&self, name: &str) -> Option<String> {
        Some(fs::read_to_string(self.path.join(name)).await.ok()?.trim().to_owned())
    }

    /// Writes a file with one line, readable only by the owner.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn write(&self, name: &str, content: &str) -> Result<()> {
        // Renamed when it is complete, so that a script never reads a part of it.
        let (path, partial) = (self.path.join(name), self.path.join(format!("{name}.partial")));
        let write = || -> std::io::Result<()> {
            let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
            writeln!(file, "{content}")?;
            std::fs::rename(&partial, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))
    }
}
