//! Which binary is tested.

use std::path::PathBuf;

use anyhow::{Result, bail};

/// The `tidemill` binary: `TIDEMILL_BIN`, else the one beside the program that runs now (a test lies
/// in `target/PROFILE/deps`, the load test in `target/PROFILE`).
///
/// # Errors
/// When there is none; says how to build it.
pub fn tidemill_binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("TIDEMILL_BIN").filter(|path| !path.is_empty()) {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("TIDEMILL_BIN={} is not a file", path.display());
        }
        return Ok(path.canonicalize()?);
    }
    let program = std::env::current_exe()?;
    let folders = program.ancestors().skip(1).take(2);
    for folder in folders {
        let candidate = folder.join("tidemill");
        if candidate.is_file() {
            return Ok(candidate);
        }
    }
    bail!(
        "no tidemill binary beside {}: run `cargo build -p tidemill` first (with --release for a \
         release build), or set TIDEMILL_BIN",
        program.display()
    )
}
