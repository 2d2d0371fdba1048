//! The binary: an allocator, and the command line.

use std::process::ExitCode;

/// A registry is many small values that come and go on all cores.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    muster::cli::run()
}
