//! The memory of a process, by Linux.

use anyhow::{Context, Result};

/// `VmRSS`, what it has now, or `VmHWM`, its peak, of a process (`self` for this one), MB.
pub fn memory_mb(process: &str, field: &str) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let of_field = |line: &str| {
        line.split_once(':')
            .filter(|(name, _)| *name == field)
            .map(|it| it.1.to_owned())
    };
    let kilobytes = status
        .lines()
        .find_map(of_field)
        .context("Linux tells a process's memory")?;
    Ok(kilobytes.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
}
