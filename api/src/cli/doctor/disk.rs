//! The space for temporary files.

use std::path::PathBuf;

use shared::doctor::Finding;
use shared::platform::config::Imports;

const CHECK: &str = "imports.temp_dir";
/// A workbook of 512 MiB and its texts.
const ENOUGH: u64 = 1 << 30;
const MIB: u64 = 1 << 20;

pub(super) fn check(settings: &Imports) -> Finding {
    let directory = match settings.temp_dir.as_str() {
        "" => std::env::temp_dir(),
        directory => PathBuf::from(directory),
    };
    let shown = directory.display();
    match rustix::fs::statvfs(&directory) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let message = format!("{shown} has {} MiB free.", free / MIB);
            match free {
                0..ENOUGH => {
                    Finding::warning(CHECK, message, "Free 1 GiB, or set imports.temp_dir: workbooks need it.")
                }
                _ => Finding::ok(CHECK, message),
            }
        }
        Err(error) => {
            let message = format!("{shown} cannot be used: {error}.");
            Finding::fault(CHECK, message, "Create it, or set imports.temp_dir to another directory.")
        }
    }
}
