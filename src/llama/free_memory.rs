//! The memory that is free, as Linux tells it.

use std::fs;

/// Free memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FreeMemory {
    /// Memory that new buffers can have without swapping. What only caches files counts as free: mapped weights are among
    /// it.
    pub ram: u64,
    /// Free swap space.
    pub swap: u64,
}

/// The part of a limited address space that is not for buffers: stacks of threads and what their allocator reserves, which
/// take addresses and hardly any memory. Without a stack for a thread, ggml ends the process.
const THREADS: u64 = 128 << 20;

/// The files of one version of Linux's memory cgroups.
struct Cgroups {
    /// The folder of the root group.
    folder: &'static str,
    limit: &'static str,
    usage: &'static str,
    /// The fields of `memory.stat` that count the cache of files.
    cache: [&'static str; 2],
}

const V1: Cgroups = Cgroups {
    folder: "/sys/fs/cgroup/memory",
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    cache: ["total_active_file", "total_inactive_file"],
};

const V2: Cgroups = Cgroups {
    folder: "/sys/fs/cgroup",
    limit: "memory.max",
    usage: "memory.current",
    cache: ["active_file", "inactive_file"],
};

impl FreeMemory {
    /// The memory that this process can have now: what is free on the machine, or less where a cgroup of the process or
    /// its address space has a limit. `None` on other systems than Linux.
    pub fn now() -> Option<Self> {
        Self::under("")
    }

    /// [`now`](Self::now), of the system whose files lie under `root`.
    fn under(root: &str) -> Option<Self> {
        let read = |path: &str| fs::read_to_string(format!("{root}{path}")).ok();
        let machine = read("/proc/meminfo")?;
        let kibibytes = |key| field(&machine, key).map(|n| n << 10);
        let mut free = Self {
            ram: kibibytes("MemAvailable:")?,
            swap: kibibytes("SwapFree:").unwrap_or(0),
        };
        for line in read("/proc/self/cgroup").unwrap_or_default().lines() {
            let mut fields = line.splitn(3, ':').skip(1);
            if let (Some(controllers), Some(group)) = (fields.next(), fields.next()) {
                if controllers.is_empty() {
                    free.limit_by_groups(&V2, group, read);
                } else if controllers.split(',').any(|it| it == "memory") {
                    free.limit_by_groups(&V1, group, read);
                }
            }
        }
        let limits = read("/proc/self/limits").unwrap_or_default();
        let status = read("/proc/self/status").unwrap_or_default();
        if let (Some(limit), Some(used)) = (
            field(&limits, "Max address space"),
            field(&status, "VmSize:"),
        ) {
            let rest = limit.saturating_sub((used << 10) + THREADS);
            free.ram = free.ram.min(rest);
            free.swap = free.swap.min(rest - free.ram);
        }
        Some(free)
    }

    /// Lowers what is free to the limits of `group` and of the groups around it. In a container the group's own path may
    /// be one of the host; the limits are then those of the root that the container sees.
    fn limit_by_groups(
        &mut self,
        version: &Cgroups,
        group: &str,
        read: impl Fn(&str) -> Option<String>,
    ) {
        let mut group = group.trim_end_matches('/');
        loop {
            let file = |name| read(&format!("{}{group}/{name}", version.folder));
            let number = |name| file(name)?.trim().parse::<u64>().ok();
            if let (Some(limit), Some(usage)) = (number(version.limit), number(version.usage)) {
                let statistics = file("memory.stat").unwrap_or_default();
                let cached = version.cache.map(|key| field(&statistics, key));
                let cached: u64 = cached.into_iter().flatten().sum();
                let rest = limit.saturating_sub(usage.saturating_sub(cached));
                self.ram = self.ram.min(rest);
            }
            let swap = (number("memory.swap.max"), number("memory.swap.current"));
            if let (Some(limit), Some(usage)) = swap {
                self.swap = self.swap.min(limit.saturating_sub(usage));
            }
            match group.rfind('/') {
                Some(end) => group = &group[..end],
                None => return,
            }
        }
    }
}

/// The number after `key` at the beginning of a line; `None` if there is no such line, or something else is there.
fn field(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let rest = line.strip_prefix(key)?;
        let rest = rest.strip_prefix(char::is_whitespace)?;
        rest.split_whitespace().next()?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;
    /// 4 GiB of memory that new programs can have, and 1 GiB of swap.
    const MACHINE: &str = "MemTotal:       8388608 kB\nMemFree:  100 kB\nMemAvailable:   4194304 kB\nSwapFree:       1048576 kB\n";

    /// The memory and the swap that are free on a machine with these files beside [`MACHINE`], in MiB.
    fn free(files: &[(&str, &str)]) -> (u64, u64) {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().to_str().unwrap();
        for (path, text) in [("/proc/meminfo", MACHINE)].iter().chain(files) {
            let path = format!("{root}{path}");
            fs::create_dir_all(path.rsplit_once('/').unwrap().0).unwrap();
            fs::write(path, text).unwrap();
        }
        let FreeMemory { ram, swap } = FreeMemory::under(root).unwrap();
        (ram / MIB, swap / MIB)
    }

    #[test]
    fn without_limits_a_process_can_have_what_the_machine_has() {
        assert_eq!(free(&[]), (4096, 1024));
        let unlimited = [
            ("/proc/self/cgroup", "4:memory:/a\n0::/a/b\n"),
            ("/sys/fs/cgroup/a/memory.max", "max\n"),
            ("/sys/fs/cgroup/a/memory.current", "1000\n"),
            (
                "/sys/fs/cgroup/memory/a/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("/sys/fs/cgroup/memory/a/memory.usage_in_bytes", "1000\n"),
            (
                "/proc/self/limits",
                "Limit   Soft Limit\nMax address space         unlimited            unlimited            bytes\n",
            ),
            ("/proc/self/status", "VmSize:\t  204800 kB\n"),
        ];
        assert_eq!(free(&unlimited), (4096, 1024));
        assert_eq!(FreeMemory::under("/nowhere"), None);
    }

    #[test]
    fn the_tightest_group_limits_a_process_and_its_cached_files_count_as_free() {
        let groups = [
            ("/proc/self/cgroup", "0::/a/b\n"),
            // 2000 MiB, of which 1500 are in use, 700 of these by caches.
            ("/sys/fs/cgroup/a/b/memory.max", "2097152000\n"),
            ("/sys/fs/cgroup/a/b/memory.current", "1572864000\n"),
            (
                "/sys/fs/cgroup/a/b/memory.stat",
                "anon 1\ninactive_file 419430400\nactive_file 314572800\nactive_file_x 5\n",
            ),
            ("/sys/fs/cgroup/a/b/memory.swap.max", "0\n"),
            ("/sys/fs/cgroup/a/b/memory.swap.current", "0\n"),
            ("/sys/fs/cgroup/a/memory.max", "max\n"),
            ("/sys/fs/cgroup/memory.max", "4194304000\n"),
            ("/sys/fs/cgroup/memory.current", "1\n"),
        ];
        assert_eq!(free(&groups), (1200, 0));
    }

    #[test]
    fn a_container_of_the_first_version_has_its_limit_at_its_root() {
        let groups = [
            ("/proc/self/cgroup", "9:pids:/x\n4:memory:/docker/0123\n"),
            (
                "/sys/fs/cgroup/memory/memory.limit_in_bytes",
                "1048576000\n",
            ),
            ("/sys/fs/cgroup/memory/memory.usage_in_bytes", "838860800\n"),
            (
                "/sys/fs/cgroup/memory/memory.stat",
                "cache 1\ntotal_inactive_file 104857600\n",
            ),
        ];
        assert_eq!(free(&groups), (300, 1024));
    }

    #[test]
    fn a_limit_of_the_address_space_holds_for_memory_and_swap_together() {
        let limits = |bytes: u64| {
            let limits = format!("Max address space         {bytes}           {bytes}  bytes\n");
            free(&[
                ("/proc/self/limits", &limits),
                ("/proc/self/status", "VmPeak: 1 kB\nVmSize:\t  204800 kB\n"),
            ])
        };
        assert_eq!(limits(700 * MIB), (372, 0));
        assert_eq!(limits(4524 * MIB), (4096, 100));
        assert_eq!(limits(100 * MIB), (0, 0));
    }
}
