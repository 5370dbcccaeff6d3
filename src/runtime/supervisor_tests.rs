//! The supervisor's core by tables and properties, on a virtual clock.

use std::time::Duration;

use proptest::prelude::*;

use super::super::actor::Fault;
use super::super::child::Restart;
use super::super::exit::{EXIT_LATE, EXIT_WEDGED};
use super::super::group::{AutoShutdown, GroupId};
use super::super::restart::Intensity;
use super::*;

pub(in super::super) const A: ActorId = ActorId(0);
pub(in super::super) const B: ActorId = ActorId(1);
pub(in super::super) const C: ActorId = ActorId(2);

pub(in super::super) fn limits() -> Limits {
    Limits {
        root_intensity: Intensity { count_max: 1, period: Duration::from_secs(300) },
        consecutive_max: 8,
        start_timeout: Duration::from_secs(5),
        start_deadline: Duration::from_secs(30),
        hard_limit: Duration::from_secs(8),
        stop_grace: Duration::from_millis(200),
        wedge_grace: Duration::from_secs(1),
        emergency_limit: Duration::from_secs(3),
    }
}

pub(in super::super) fn plan(name: &str, phase: u8, depends_on: &[ActorId]) -> ChildPlan {
    ChildPlan {
        name: name.to_owned(),
        restart: Restart::Permanent,
        group: GroupId::MAIN,
        significant: false,
        depends_on: depends_on.to_vec(),
        phase,
        drain_timeout: Duration::from_secs(1),
        essential: true,
        must_drain: false,
        emergency: false,
    }
}

/// Drives a core and writes down what it does, one letter per action: `S0.1` starts generation 1 of actor 0, `T0.1`
/// ends it for a restart of its group, `D` begins a drain, `P` sends a pill, `X` closes an edge, `N` stops now, `I` interrupts, `F` fences, `U` unfences,
/// `E` runs the emergency, `R` arms the reaper, `!` exits.
pub(in super::super) struct Table {
    pub(in super::super) core: Supervisor,
    pub(in super::super) now: MonoNs,
    pub(in super::super) log: Vec<String>,
}

impl Table {
    pub(in super::super) fn new(children: Vec<ChildPlan>, edges: Vec<EdgePlan>) -> Self {
        Self::grouped(children, edges, &[GroupSpec::new("main")])
    }

    pub(in super::super) fn grouped(
        children: Vec<ChildPlan>,
        edges: Vec<EdgePlan>,
        groups: &[GroupSpec],
    ) -> Self {
        let core = Supervisor::new(limits(), children, edges, groups, 1);
        Self { core, now: MonoNs::ZERO, log: Vec::new() }
    }

    /// Three actors in a row, A feeds B feeds C, in phases 0, 1, 2; C starts first.
    fn row() -> Self {
        let children = vec![plan("a", 0, &[B]), plan("b", 1, &[C]), plan("c", 2, &[])];
        let edges = vec![EdgePlan { from: vec![A], to: B }, EdgePlan { from: vec![B], to: C }];
        Self::new(children, edges)
    }

    /// One actor, whose end by itself ends the system unless it is permanent.
    pub(in super::super) fn solo(restart: Restart) -> Self {
        let significant = restart != Restart::Permanent;
        let child = ChildPlan { restart, significant, ..plan("a", 0, &[]) };
        let auto_shutdown = AutoShutdown::AnySignificant;
        let group = GroupSpec { auto_shutdown, ..GroupSpec::new("main") };
        Self::grouped(vec![child], Vec::new(), &[group])
    }

    pub(in super::super) fn event(&mut self, event: Event) -> &mut Self {
        let mut actions = Vec::new();
        self.core.step(self.now, event, &mut actions);
        self.log.extend(actions.iter().filter_map(letter));
        self
    }

    pub(in super::super) fn at(&mut self, ms: u64) -> &mut Self {
        self.now = MonoNs::from_millis(ms);
        self.event(Event::Tick)
    }

    pub(in super::super) fn ready(&mut self, actor: ActorId, generation: u32) -> &mut Self {
        self.event(Event::Ready { actor, generation })
    }

    pub(in super::super) fn exited(
        &mut self,
        actor: ActorId,
        generation: u32,
        reason: ExitReason,
    ) -> &mut Self {
        self.event(Event::Exited { actor, generation, reason })
    }

    pub(in super::super) fn drain(&mut self) -> &mut Self {
        self.event(Event::Drain(StopReason::asked("SIGTERM")))
    }

    /// All three of a row are up; what led there is forgotten.
    pub(in super::super) fn up(&mut self) -> &mut Self {
        self.event(Event::Begin).ready(C, 1).ready(B, 1).ready(A, 1);
        self.log.clear();
        self
    }

    #[track_caller]
    pub(in super::super) fn did(&mut self, expect: &str) -> &mut Self {
        assert_eq!(self.log.join(" "), expect);
        self.log.clear();
        self
    }
}

fn letter(action: &Action) -> Option<String> {
    Some(match action {
        Action::Start { actor, generation } => format!("S{}.{generation}", actor.0),
        Action::Terminate { actor, generation } => format!("T{}.{generation}", actor.0),
        Action::BeginDrain(actor) => format!("D{}", actor.0),
        Action::SendPill(edge) => format!("P{}", edge.0),
        Action::Close(edge) => format!("X{}", edge.0),
        Action::StopNow(actor) => format!("N{}", actor.0),
        Action::Interrupt(actor) => format!("I{}", actor.0),
        Action::Fence(_) => "F".to_owned(),
        Action::Unfence => "U".to_owned(),
        Action::Emergency => "E".to_owned(),
        Action::ArmReaper { code, .. } => format!("R{code}"),
        Action::Exit(code) => format!("!{code}"),
        Action::Failures(..) | Action::Mark(..) | Action::Say(_) => return None,
    })
}

pub(in super::super) fn panic() -> ExitReason {
    ExitReason::Panic { message: "boom".to_owned(), at: "x.rs:1".to_owned() }
}

pub(in super::super) fn fault() -> ExitReason {
    ExitReason::Fault(Fault::fatal("no"))
}

#[test]
fn s01_starts_in_dependency_order() {
    let mut t = Table::row();
    t.event(Event::Begin).did("S2.1").ready(C, 1).did("S1.1").ready(B, 1).did("S0.1");
}

#[test]
fn s01_drains_in_phases_with_pills_behind_the_last_message() {
    let mut t = Table::row();
    t.up().drain().did("R76 D0");
    t.exited(A, 1, ExitReason::Drained).did("D1 P0");
    t.exited(B, 1, ExitReason::Drained).did("X0 D2 P1");
    t.exited(C, 1, ExitReason::Drained).did("X1 !0");
}

#[test]
fn actors_that_feed_each_other_get_no_pill() {
    let edges = vec![EdgePlan { from: vec![A], to: B }, EdgePlan { from: vec![B], to: A }];
    let mut t = Table::new(vec![plan("a", 0, &[]), plan("b", 1, &[])], edges);
    t.event(Event::Begin).ready(A, 1).ready(B, 1).did("S0.1 S1.1");
    t.drain().did("R76 D0");
    t.exited(A, 1, ExitReason::Drained).did("X1 D1 P0");
}

#[test]
fn a_configuration_fault_ends_with_78() {
    let config = || Fault::Config("bad key".into());
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).ready(A, 1).exited(A, 1, ExitReason::Fault(config())).did("S0.1 R76 !78");
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).did("S0.1");
    t.exited(A, 1, ExitReason::StartFailed(config())).did("R76 !78");
}

#[test]
fn reports_of_a_dead_generation_are_ignored_and_counted() {
    let mut t = Table::row();
    t.up().exited(B, 1, panic()).ready(B, 2).did("S1.2");
    t.exited(B, 1, panic()).ready(B, 1).did("");
    assert_eq!(t.core.stale_events(), 2);
}

#[test]
fn a_drain_before_ready_and_in_backoff_resurrects_nobody() {
    let mut t = Table::row();
    t.event(Event::Begin).did("S2.1");
    // C is starting: it is asked to drain when its phase comes. A and B never lived.
    t.drain().did("R76 X0 D2 P1");
    t.ready(C, 1).exited(C, 1, ExitReason::Drained).did("X1 !0");

    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).ready(A, 1).exited(A, 1, panic()).ready(A, 2).exited(A, 2, panic());
    t.did("S0.1 S0.2").drain().did("R76 !0").at(60_000).did("");
}

#[test]
fn s49_a_crash_during_the_drain_is_recorded_not_restarted() {
    let mut t = Table::row();
    t.up().drain().did("R76 D0").exited(A, 1, panic()).did("D1 P0");
    t.exited(C, 1, panic()).did("X1").exited(B, 1, ExitReason::Drained).did("X0 !0");
    assert_eq!(t.core.last_exit(A).map(ExitReason::kind), Some("panic"));
}

#[test]
fn s48_a_drain_runs_once() {
    let mut t = Table::row();
    t.up().drain().did("R76 D0").drain().did("");
}

#[test]
fn s44_a_missed_deadline_goes_on_without_the_late_actor() {
    let mut t = Table::row();
    t.up().drain().did("R76 D0");
    t.at(999).did("").at(1_000).did("N0 I0");
    t.at(1_199).did("").at(1_200).did("D1 P0");
    t.exited(B, 1, ExitReason::Drained).exited(C, 1, ExitReason::Drained).did("X0 D2 P1 X1 !76");
    let late: Vec<bool> = t.core.phases().iter().map(|p| p.late).collect();
    assert_eq!(late, [true, false, false]);
}

#[test]
fn an_actor_that_must_drain_and_does_not_costs_76_and_an_emergency() {
    let must = ChildPlan { must_drain: true, emergency: true, ..plan("a", 0, &[]) };
    let mut t = Table::new(vec![must.clone()], Vec::new());
    t.event(Event::Begin).ready(A, 1).drain().did("S0.1 R76 D0");
    t.exited(A, 1, panic()).did("E").event(Event::EmergencyDone).did("!76");

    let mut t = Table::new(vec![must], Vec::new());
    t.event(Event::Begin).ready(A, 1).drain().at(1_000).at(1_200).did("S0.1 R76 D0 N0 I0 E");
    t.event(Event::EmergencyDone).did("!76");
}

#[test]
fn what_a_dead_actor_left_open_is_closed_by_the_emergency() {
    let sends = || ChildPlan { must_drain: true, emergency: true, ..plan("a", 0, &[]) };
    // Waiting for its next life when the drain begins.
    let mut t = Table::new(vec![sends()], Vec::new());
    t.event(Event::Begin).ready(A, 1).exited(A, 1, panic()).did("S0.1 S0.2");
    t.exited(A, 2, panic()).did("").drain().did("R76 E");
    t.event(Event::EmergencyDone).did("!76");

    // Its own budget is exhausted.
    let mut t = Table::new(vec![sends()], Vec::new());
    t.event(Event::Begin).ready(A, 1);
    for generation in 1..=9 {
        t.exited(A, generation, panic()).at(u64::from(generation) * 6_000);
    }
    t.event(Event::EmergencyDone);
    let log = t.log.join(" ");
    assert!(log.ends_with("R76 E !70"), "{log}");

    // Drained in full: nothing is left.
    let mut t = Table::new(vec![sends()], Vec::new());
    t.event(Event::Begin).ready(A, 1).drain().exited(A, 1, ExitReason::Drained);
    t.did("S0.1 R76 D0 !0");
}

#[test]
fn a_stall_fences_until_it_clears() {
    let mut t = Table::row();
    t.up().event(Event::Stalled { actor: B, generation: 1 }).did("F");
    t.event(Event::Stalled { actor: C, generation: 1 }).did("");
    t.event(Event::Recovered { actor: B, generation: 1 }).did("");
    t.event(Event::Recovered { actor: C, generation: 1 }).did("U");
}

fn wedge(actor: ActorId, generation: u32) -> Event {
    Event::Wedged { actor, generation, how: "looping".to_owned() }
}

#[test]
fn the_ladder_ends_with_75() {
    let mut t = Table::row();
    t.up().event(wedge(B, 1)).did("I1 F").at(999).did("").at(1_000).did("R75 E");
    t.event(Event::EmergencyDone).did("!75");
    assert_eq!(t.core.reason().map(|r| r.code), Some(EXIT_WEDGED));
}

#[test]
fn an_emergency_that_hangs_does_not_hold_the_exit() {
    let mut t = Table::row();
    t.up().event(wedge(B, 1)).at(1_000).did("I1 F R75 E").at(3_999).did("").at(4_000).did("!75");
}

#[test]
fn an_actor_that_comes_back_leaves_the_ladder() {
    let mut t = Table::row();
    t.up().event(wedge(B, 1)).did("I1 F");
    t.event(Event::Recovered { actor: B, generation: 1 }).did("U").at(10_000).did("");
    t.event(wedge(B, 1)).did("I1 F").exited(B, 1, fault()).did("U S1.2");
}

#[test]
fn a_start_that_never_ends_is_a_wedge() {
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).at(4_999).did("S0.1").at(5_000).did("I0 F").at(6_000).did("R75 E");
}

#[test]
fn nobody_begins_on_the_last_rung() {
    let mut t = Table::row();
    t.up().exited(A, 1, panic()).ready(A, 2).exited(A, 2, panic()).did("S0.2");
    t.event(wedge(B, 1)).at(1_000).did("I1 F R75 E");
    t.exited(C, 1, panic()).did("X1");
    assert_eq!(t.core.next_due(), MonoNs::from_millis(4_000));
    t.at(3_999).did("").at(4_000).did("!75");
}

#[test]
fn what_is_found_gone_while_the_emergency_runs_is_closed_by_another() {
    let gone = |name, phase| ChildPlan { emergency: true, ..plan(name, phase, &[]) };
    let mut t = Table::new(vec![gone("a", 0), gone("b", 0)], Vec::new());
    t.event(Event::Begin).ready(A, 1).ready(B, 1).drain().did("S0.1 S1.1 R76 D0 D1");
    t.exited(A, 1, panic()).did("E").exited(B, 1, panic()).did("");
    t.event(Event::EmergencyDone).did("E").event(Event::EmergencyDone).did("!0");
}

#[test]
fn a_stop_request_on_the_last_rung_changes_nothing() {
    let mut t = Table::row();
    t.up().event(wedge(B, 1)).at(1_000).did("I1 F R75 E").drain().did("");
    t.exited(B, 1, panic()).did("").event(Event::EmergencyDone).did("!75");
}

#[test]
fn s41_nobody_takes_the_place_of_a_thread_that_was_given_up() {
    // On the ladder: it comes back while the emergency routine runs, behind the fence.
    let mut t = Table::row();
    t.up().event(wedge(B, 1)).at(1_000).did("I1 F R75 E");
    t.exited(B, 1, panic()).at(2_000).did("").event(Event::EmergencyDone).did("!75");
    // In a drain: it comes back after its mailbox was closed.
    let mut t = Table::row();
    t.up().drain().at(1_000).at(1_200).did("R76 D0 N0 I0 D1 P0");
    t.exited(A, 1, panic()).did("").at(2_200).did("N1 I1").at(2_400).did("X0 D2 P1");
    t.exited(B, 1, panic()).exited(C, 1, ExitReason::Drained).did("X1 !76");
}

/// What may happen to a row of actors, by the numbers that proptest draws.
fn random_event(kind: u8, actor: u16, generation: u32) -> Event {
    let actor = ActorId(actor % 3);
    match kind % 11 {
        0 | 1 => Event::Ready { actor, generation },
        2 => Event::Exited { actor, generation, reason: panic() },
        3 => Event::Exited { actor, generation, reason: ExitReason::Drained },
        4 => Event::Stalled { actor, generation },
        5 => Event::Recovered { actor, generation },
        6 => wedge(actor, generation),
        7 => Event::EmergencyDone,
        8 => Event::Drain(StopReason::asked("x")),
        _ => Event::Tick,
    }
}

proptest! {
    #[test]
    fn at_most_one_life_no_start_in_a_drain_one_exit_in_time(
        events in proptest::collection::vec((0_u8..11, 0_u16..3, 0_u32..4, 0_u64..2_000), 1..200),
    ) {
        let mut t = Table::row();
        t.event(Event::Begin);
        let mut ms = 0;
        for (kind, actor, back, gap) in events {
            ms += gap;
            t.now = MonoNs::from_millis(ms);
            let newest = t.core.children[usize::from(actor)].generation;
            // Mostly the present generation, sometimes an older one.
            t.event(random_event(kind, actor, newest.saturating_sub(back / 3)));
        }
        // Whatever happened: a drain that nobody answers ends within the hard limit, or the ladder does.
        t.drain();
        for step in 0..=160 {
            t.at(ms + step * 50);
        }
        prop_assert_eq!(t.log.iter().filter(|l| l.starts_with('!')).count(), 1);
        prop_assert!(t.log.last().is_some_and(|l| l.starts_with('!')), "{:?}", t.log);
        let drain = t.log.iter().position(|l| l == &format!("R{EXIT_LATE}"));
        let last_start = t.log.iter().rposition(|l| l.starts_with('S'));
        prop_assert!(drain.is_none() || last_start < drain, "{:?}", t.log);
        for actor in 0..3 {
            let generations: Vec<u32> = t
                .log
                .iter()
                .filter_map(|l| l.strip_prefix(&format!("S{actor}."))?.parse().ok())
                .collect();
            let expect: Vec<u32> = (1..).take(generations.len()).collect();
            prop_assert_eq!(generations, expect);
        }
    }
}
