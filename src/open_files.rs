//! Open files: how many the system lets this process have, and how many of them connections may take.

/// For what else is open: the log, the listener, the runtime, the bus's connections, the disk's files, peers that are asked.
const RESERVED: usize = 128;

/// Raises the limit of open files as far as the system lets this process; the limit that holds then. `None`: there is none, or it is not known.
#[must_use]
pub fn raise() -> Option<usize> {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
        let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
        // What cannot be raised holds as it is.
        let is_raised = maximum != current && setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).is_ok();
        let holds = if is_raised { maximum } else { current };
        holds.and_then(|files| usize::try_from(files).ok())
    }
    #[cfg(not(target_os = "linux"))]
    {
        None
    }
}

/// How many connections each of some nodes of this process may have open, where so many files can be: the rest is for its probes, its bus
/// and its disk. At the least a quarter of its files.
#[must_use]
pub fn connections(files: usize, nodes: usize, probes: usize) -> usize {
    let share = files / nodes.max(1);
    share.saturating_sub(RESERVED + probes).max(share / 4).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probes_bus_and_disk_have_files_whatever_connections_take() {
        assert_eq!(connections(100_000, 1, 256), 100_000 - 256 - RESERVED);
        assert_eq!(connections(3000, 3, 256), 1000 - 256 - RESERVED);
        assert_eq!(connections(256, 1, 256), 64);
        assert_eq!(connections(0, 0, 0), 1);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_limit_is_raised_once() {
        assert_eq!(raise(), raise());
    }
}
