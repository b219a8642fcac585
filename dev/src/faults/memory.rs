//! The resident memory of a program, in MiB.

use anyhow::{Context, Result};

/// The resident memory now.
pub fn resident(pid: u32) -> Result<f64> {
    read(pid, "VmRSS:")
}

/// The peak since [`forget_peak`].
pub fn peak(pid: u32) -> Result<f64> {
    read(pid, "VmHWM:")
}

/// Resets the peak to the resident memory now.
pub fn forget_peak(pid: u32) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

fn read(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kib: f64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
