//! The machine that a program runs on.

/// The name of this machine.
pub fn name() -> String {
    gethostname::gethostname().to_string_lossy().into_owned()
}
