//! Which thread runs on which core, and what becomes of spinning where cores are few.
//!
//! In: the machine's CPU lists and the hosts wanted. Out: the hosts as they will be, and one line that says so.
//! Explicit cores are honoured. Two threads that spin on one core are about a thousand times slower than two that
//! park, so where cores are too few, the wait strategy changes and nothing is pinned automatically.

use std::collections::BTreeSet;
use std::fmt::Write;

use core_affinity::CoreId;

use super::actor::ActorId;
use super::child::CORE_ID_LIMIT;
use super::idle::IdleStrategy;

/// One thread of the plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPlan {
    /// The thread's name.
    pub name: String,
    /// Whose turns it takes.
    pub seats: Vec<ActorId>,
    /// The core to pin it to.
    pub core: Option<u32>,
    /// How it rests.
    pub idle: IdleStrategy,
    /// Whether one of its actors is hot.
    pub hot: bool,
    /// Whether it was declared as a shared host.
    pub shared: bool,
}

/// The threads of a system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Every thread that takes turns.
    pub hosts: Vec<HostPlan>,
    /// Whether there are too few cores for the hot threads, so that none spins.
    pub overprovisioned: bool,
    /// Cores this process may use.
    pub usable_cores: usize,
}

impl Plan {
    /// The plan in one line: `feed-x=core2/spin book-x=any/park ...`.
    pub fn line(&self) -> String {
        let mut line = String::new();
        for host in &self.hosts {
            let core = host.core.map_or_else(|| "any".to_owned(), |c| format!("core{c}"));
            let blank = if line.is_empty() { "" } else { " " };
            // Writing to a string cannot fail.
            let _ = write!(line, "{blank}{}={core}/{}", host.name, host.idle.label());
        }
        line
    }
}

/// The machine's CPUs, as far as they concern this process.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    online: BTreeSet<u32>,
    isolated: BTreeSet<u32>,
    allowed: BTreeSet<u32>,
    /// Of each core, the cores that share its execution units, itself included.
    siblings: Vec<BTreeSet<u32>>,
}

impl Machine {
    /// Reads the kernel's lists; must be called before the calling thread is pinned.
    pub(super) fn read() -> Self {
        let list = |path: &str| cpu_list(&std::fs::read_to_string(path).unwrap_or_default());
        let online = list("/sys/devices/system/cpu/online");
        let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
        let own = status.lines().find_map(|l| l.strip_prefix("Cpus_allowed_list:"));
        let sibling = |core: &u32| {
            let path = "/sys/devices/system/cpu/cpu";
            list(&format!("{path}{core}/topology/thread_siblings_list"))
        };
        Self {
            siblings: online.iter().map(sibling).collect(),
            isolated: list("/sys/devices/system/cpu/isolated"),
            allowed: own.map(cpu_list).unwrap_or_default(),
            online,
        }
    }

    /// Whether the core exists and runs. A machine that does not say is believed to have it.
    pub(super) fn is_online(&self, core: u32) -> bool {
        self.online.is_empty() || self.online.contains(&core)
    }

    /// Cores that this process may pin to: its own mask, and the isolated ones, which are in nobody's mask.
    fn usable(&self) -> BTreeSet<u32> {
        let mut usable: BTreeSet<u32> = self.allowed.union(&self.isolated).copied().collect();
        usable.retain(|c| *c < CORE_ID_LIMIT && self.is_online(*c));
        usable
    }

    fn are_siblings(&self, a: u32, b: u32) -> bool {
        self.siblings.iter().any(|s| s.contains(&a) && s.contains(&b))
    }
}

/// Parses `0-3,8`; what is not a number is left out.
fn cpu_list(text: &str) -> BTreeSet<u32> {
    let mut cores = BTreeSet::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        if let (Ok(first), Ok(last)) = (first.trim().parse::<u32>(), last.trim().parse::<u32>()) {
            // A kernel's list ends far below this; a damaged one must not fill the memory.
            cores.extend(first..=last.min(CORE_ID_LIMIT * 8));
        }
    }
    cores
}

/// Decides cores and wait strategies. `pin`: give hot threads that name no core one of their own.
pub(super) fn plan_hosts(mut hosts: Vec<HostPlan>, machine: &Machine, pin: bool) -> Plan {
    let usable = machine.usable();
    let hot = hosts.iter().filter(|h| h.hot).count();
    // One core is left for the supervisor, the logger and everything that is not hot.
    let overprovisioned = hot >= usable.len().max(1);
    if overprovisioned {
        // A thread with a core of its own, as somebody decided, may spin there.
        for host in hosts.iter_mut().filter(|h| h.core.is_none()) {
            if host.idle == IdleStrategy::Spin {
                host.idle = IdleStrategy::PARK;
            }
        }
    } else if pin {
        assign_cores(&mut hosts, machine, &usable);
    }
    Plan { hosts, overprovisioned, usable_cores: usable.len() }
}

/// Isolated cores first, then from the top; never core 0, never the sibling of a core that is taken.
fn assign_cores(hosts: &mut [HostPlan], machine: &Machine, usable: &BTreeSet<u32>) {
    let mut taken: Vec<u32> = hosts.iter().filter_map(|h| h.core).collect();
    let mut free: Vec<u32> = usable.iter().copied().filter(|c| *c != 0).collect();
    free.sort_by_key(|c| (!machine.isolated.contains(c), std::cmp::Reverse(*c)));
    for host in hosts.iter_mut().filter(|h| h.hot && h.core.is_none()) {
        let fits = |c: &&u32| !taken.iter().any(|t| t == *c || machine.are_siblings(*t, **c));
        let Some(core) = free.iter().find(fits).copied() else { return };
        taken.push(core);
        host.core = Some(core);
    }
}

/// Pins the calling thread and reads back what the kernel made of it.
///
/// # Errors
/// Why the thread is not pinned now.
pub(super) fn pin_current(core: u32) -> Result<(), String> {
    // Beyond the mask the call below would abort the process.
    if core >= CORE_ID_LIMIT {
        return Err(format!("core {core} is beyond the kernel's CPU mask"));
    }
    let Ok(id) = usize::try_from(core) else { return Err(format!("core {core} is no core")) };
    let accepted = core_affinity::set_for_current(CoreId { id });
    let mask = rustix::thread::sched_getaffinity(None).map_err(|e| e.to_string())?;
    if accepted && mask.is_set(id) && mask.count() == 1 {
        return Ok(());
    }
    Err(format!("the kernel refuses core {core}"))
}

/// Pins another thread of this process again.
///
/// # Errors
/// The kernel's refusal.
pub(super) fn pin_thread(tid: i32, core: u32) -> Result<(), String> {
    let (Some(pid), Ok(id)) = (rustix::thread::Pid::from_raw(tid), usize::try_from(core)) else {
        return Err(format!("no thread {tid}"));
    };
    if core >= CORE_ID_LIMIT {
        return Err(format!("core {core} is beyond the kernel's CPU mask"));
    }
    let mut mask = rustix::thread::CpuSet::new();
    mask.set(id);
    rustix::thread::sched_setaffinity(Some(pid), &mask).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(online: &str, allowed: &str, isolated: &str, siblings: &[&str]) -> Machine {
        Machine {
            online: cpu_list(online),
            allowed: cpu_list(allowed),
            isolated: cpu_list(isolated),
            siblings: siblings.iter().map(|s| cpu_list(s)).collect(),
        }
    }

    fn host(name: &str, core: Option<u32>) -> HostPlan {
        HostPlan {
            name: name.to_owned(),
            seats: Vec::new(),
            core,
            idle: IdleStrategy::Spin,
            hot: true,
            shared: false,
        }
    }

    /// Plans two hot spinners and compares the plan's line.
    #[track_caller]
    fn check(machine: &Machine, cores: [Option<u32>; 2], pin: bool, expect: &str) {
        let hosts = vec![host("a", cores[0]), host("b", cores[1])];
        assert_eq!(plan_hosts(hosts, machine, pin).line(), expect);
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(cpu_list("0-2,5\n"), BTreeSet::from([0, 1, 2, 5]));
        assert_eq!(cpu_list(""), BTreeSet::new());
        assert_eq!(cpu_list("x,3-"), BTreeSet::new());
    }

    #[test]
    fn too_few_cores_make_spinners_park() {
        check(&machine("0-1", "0-1", "", &[]), [None, None], true, "a=any/park b=any/park");
        check(&machine("0-3", "0", "", &[]), [None, None], true, "a=any/park b=any/park");
    }

    #[test]
    fn explicit_cores_are_honoured() {
        check(&machine("0-1", "0-1", "", &[]), [Some(1), None], true, "a=core1/spin b=any/park");
    }

    #[test]
    fn nothing_is_pinned_unasked() {
        check(&machine("0-7", "0-7", "", &[]), [None, None], false, "a=any/spin b=any/spin");
    }

    #[test]
    fn s53_isolated_cores_come_first_though_in_nobodys_mask() {
        check(&machine("0-3", "0-1", "2-3", &[]), [None, None], true, "a=core3/spin b=core2/spin");
    }

    #[test]
    fn siblings_are_left_alone() {
        let smt = machine("0-5", "0-5", "", &["0,3", "1,4", "2,5"]);
        check(&smt, [None, None], true, "a=core5/spin b=core4/spin");
    }

    #[test]
    fn a_core_beyond_the_mask_is_refused_before_it_aborts() {
        assert!(pin_current(1024).is_err());
        assert!(pin_current(u32::MAX).is_err());
    }
}
