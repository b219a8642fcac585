//! How much memory a program has resident, in MiB.

use anyhow::{Context, Result};

/// What it has now.
pub fn resident(pid: u32) -> Result<f64> {
    read(pid, "VmRSS:")
}

/// The most it had since [`forget_peak`].
pub fn peak(pid: u32) -> Result<f64> {
    read(pid, "VmHWM:")
}

/// The peak begins anew from what is resident now.
pub fn forget_peak(pid: u32) -> Result<()> {
    Ok(std::fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

fn read(pid: u32, name: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let value = status.lines().find_map(|line| line.strip_prefix(name)).with_context(|| format!("no {name}"))?;
    let kib: f64 = value.trim().trim_end_matches(" kB").parse()?;
    Ok(kib / 1024.0)
}
