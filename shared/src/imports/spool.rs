//! Temporary files without a name, which end with their owner, whatever happens to it.

use std::fs::{File, OpenOptions, remove_file};
use std::io;
use std::path::Path;

use uuid::Uuid;

use crate::error::Error;

/// Creates a file in the directory, by default that of the system, and removes its name at once.
///
/// # Errors
/// [`Error::Internal`] if the directory does not exist or is not writable.
pub(super) fn create(directory: &str) -> Result<File, Error> {
    let system = std::env::temp_dir();
    let directory = if directory.is_empty() { system.as_path() } else { Path::new(directory) };
    let path = directory.join(format!("crm-{}.tmp", Uuid::now_v7()));
    let mut options = OpenOptions::new();
    options.read(true).write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let create = || -> io::Result<File> {
        let file = options.open(&path)?;
        remove_file(&path)?;
        Ok(file)
    };
    create().map_err(|error| failed(&error))
}

/// A temporary file that cannot be used.
pub(super) fn failed(error: &io::Error) -> Error {
    Error::internal(format!("a temporary file in imports.temp_dir cannot be used: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;

    #[test]
    fn a_file_has_no_name_and_can_be_read_again() {
        let directory = std::env::temp_dir().join(Uuid::now_v7().to_string());
        std::fs::create_dir(&directory).unwrap();
        let mut file = create(directory.to_str().unwrap()).unwrap();
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0);
        file.write_all(b"rows").unwrap();
        file.rewind().unwrap();
        let mut text = String::new();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "rows");
        std::fs::remove_dir(&directory).unwrap();
        assert!(matches!(create(directory.to_str().unwrap()), Err(Error::Internal(_))));
    }
}
