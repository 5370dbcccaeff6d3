//! Restart types, strategies, budgets and escalation by tables. `sNN` is the number of the acceptance scenario.

use std::time::Duration;

use super::super::actor::{ActorId, Fault};
use super::super::child::Restart;
use super::super::exit::ExitReason;
use super::super::group::{AutoShutdown, GroupSpec, Strategy};
use super::super::protocol::{ChildPlan, EdgePlan, Event};
use super::super::supervisor::tests::{A, B, C, Table, fault, panic, plan};

/// What becomes of a lone child of each restart type after each kind of exit.
#[track_caller]
fn check_restart(restart: Restart, reason: ExitReason, expect: &str) {
    let mut t = Table::solo(restart);
    t.event(Event::Begin).ready(A, 1).did("S0.1");
    t.exited(A, 1, reason).did(expect);
}

#[test]
fn s04_permanent_normal() {
    check_restart(Restart::Permanent, ExitReason::Done, "S0.2");
}

#[test]
fn s05_permanent_shutdown() {
    check_restart(Restart::Permanent, ExitReason::Drained, "S0.2");
    check_restart(Restart::Permanent, ExitReason::Restarting, "S0.2");
}

#[test]
fn s06_permanent_abnormal() {
    check_restart(Restart::Permanent, panic(), "S0.2");
    check_restart(Restart::Permanent, fault(), "S0.2");
}

#[test]
fn s07_transient_normal() {
    check_restart(Restart::Transient, ExitReason::Done, "R76 !0");
}

#[test]
fn s08_transient_shutdown() {
    check_restart(Restart::Transient, ExitReason::Drained, "R76 !0");
}

#[test]
fn s09_transient_abnormal() {
    check_restart(Restart::Transient, panic(), "S0.2");
    check_restart(Restart::Transient, fault(), "S0.2");
}

#[test]
fn s10_temporary_normal() {
    check_restart(Restart::Temporary, ExitReason::Done, "R76 !0");
}

#[test]
fn s11_temporary_shutdown() {
    check_restart(Restart::Temporary, ExitReason::Drained, "R76 !0");
}

#[test]
fn s12_temporary_abnormal() {
    check_restart(Restart::Temporary, panic(), "R76 !70");
    check_restart(Restart::Temporary, fault(), "R76 !70");
}

/// A row of three, C below B below A, in a group with this strategy.
fn row(strategy: Strategy) -> Table {
    let children = vec![plan("a", 0, &[B]), plan("b", 1, &[C]), plan("c", 2, &[])];
    let edges = vec![EdgePlan { from: vec![A], to: B }, EdgePlan { from: vec![B], to: C }];
    let mut t =
        Table::grouped(children, edges, &[GroupSpec { strategy, ..GroupSpec::new("main") }]);
    t.up();
    t
}

#[test]
fn one_for_one_restarts_the_crashed_actor_only() {
    row(Strategy::OneForOne).exited(B, 1, panic()).did("S1.2").ready(B, 2).did("");
}

#[test]
fn rest_for_one_restarts_those_that_depend_on_it_in_order() {
    let mut t = row(Strategy::RestForOne);
    t.exited(B, 1, panic()).did("T0.1");
    t.exited(A, 1, ExitReason::Restarting).did("S1.2").ready(B, 2).did("S0.2").ready(A, 2).did("");
    t.exited(A, 2, panic()).did("S0.3");
}

#[test]
fn one_for_all_ends_in_reverse_and_starts_in_order() {
    let mut t = row(Strategy::OneForAll);
    t.exited(B, 1, panic()).did("T0.1 T2.1");
    t.exited(C, 1, ExitReason::Restarting).did("");
    t.exited(A, 1, ExitReason::Restarting).did("S2.2");
    t.ready(C, 2).did("S1.2").ready(B, 2).did("S0.2").ready(A, 2).did("");

    let mut t = row(Strategy::OneForAll);
    t.exited(C, 1, panic()).did("T0.1").exited(A, 1, ExitReason::Restarting).did("T1.1");
    t.exited(B, 1, ExitReason::Restarting).did("S2.2");
}

#[test]
fn a_crash_on_the_way_out_of_a_round_is_no_attempt() {
    let mut t = row(Strategy::OneForAll);
    t.exited(C, 1, panic()).exited(A, 1, panic()).exited(B, 1, fault()).did("T0.1 T1.1 S2.2");
    t.ready(C, 2).ready(B, 2).ready(A, 2).did("S1.2 S0.2");
    // C has failed once, A and B never.
    t.exited(A, 2, panic()).did("T1.2").exited(B, 2, ExitReason::Restarting);
    t.did("T2.2").exited(C, 2, ExitReason::Restarting).did("S2.3");
}

#[test]
fn an_actor_of_a_round_that_does_not_end_is_a_wedge() {
    let mut t = row(Strategy::OneForAll);
    // What watches its progress has more to go by than the clock; this is the last word.
    t.exited(C, 1, panic()).did("T0.1").at(9_999).did("").at(10_000).did("I0 F");
    t.at(11_000).did("R75 E").event(Event::EmergencyDone).did("!75");
}

/// A row under one-for-all in which `B` has this restart type.
fn row_with(restart: Restart) -> Table {
    let children =
        vec![plan("a", 0, &[B]), ChildPlan { restart, ..plan("b", 1, &[C]) }, plan("c", 2, &[])];
    let group = GroupSpec { strategy: Strategy::OneForAll, ..GroupSpec::new("main") };
    let mut t = Table::grouped(children, Vec::new(), &[group]);
    t.up();
    t
}

#[test]
fn a_round_resurrects_nobody_who_ended_for_good_before_it_was_told() {
    let mut t = row_with(Restart::Transient);
    t.exited(C, 1, panic()).did("T0.1").exited(B, 1, ExitReason::Done).did("");
    // Whoever depends on it does not wait for it.
    t.exited(A, 1, ExitReason::Restarting).did("S0.2 S2.2");
    t.ready(C, 2).ready(A, 2).at(600_000).did("");
}

#[test]
fn an_actor_that_is_done_when_it_is_told_to_end_stays_done() {
    let mut t = row_with(Restart::Transient);
    t.exited(C, 1, panic()).exited(A, 1, ExitReason::Restarting).did("T0.1 T1.1");
    t.exited(B, 1, ExitReason::Done).did("S0.2 S2.2").ready(C, 2).ready(A, 2).did("");
}

#[test]
fn a_temporary_actor_that_never_was_ready_starts_with_its_round() {
    let children = vec![
        plan("a", 0, &[]),
        ChildPlan { restart: Restart::Temporary, ..plan("b", 0, &[]) },
        plan("c", 0, &[B]),
    ];
    let group = GroupSpec { strategy: Strategy::OneForAll, ..GroupSpec::new("main") };
    let mut t = Table::grouped(children, Vec::new(), &[group]);
    t.event(Event::Begin).ready(A, 1).did("S0.1 S1.1");
    t.exited(A, 1, panic()).did("T1.1").exited(B, 1, ExitReason::Restarting).did("S0.2 S1.2");
    t.ready(B, 2).did("S2.1");
}

#[test]
fn a_crash_of_an_actor_not_told_yet_begins_with_its_round() {
    // A burst of A's restarts the group: C is needed by B until B has ended, and crashes meanwhile.
    let mut t = row(Strategy::OneForOne);
    for generation in 1..=6 {
        t.exited(A, generation, panic());
        t.at(u64::from(generation) * 4_000).ready(A, generation + 1);
    }
    t.did("S0.2 S0.3 S0.4 S0.5 S0.6 T1.1");
    t.exited(C, 1, panic()).did("").exited(B, 1, ExitReason::Restarting).at(25_000).did("S2.2");
}

#[test]
fn a_bystanders_healthy_time_counts() {
    let mut t = row(Strategy::OneForAll);
    // B fails seven times in a row, slowly enough for its group.
    for generation in 1..=7_u32 {
        let now = u64::from(generation) * 40_000;
        t.at(now).exited(B, generation, panic()).exited(A, generation, ExitReason::Restarting);
        t.exited(C, generation, ExitReason::Restarting).at(now + 6_000);
        t.ready(C, generation + 1).ready(B, generation + 1).ready(A, generation + 1);
    }
    // Four healthy hours later it ends as a bystander, and then fails once.
    let now = 4 * 3_600_000;
    t.at(now).exited(C, 8, panic()).exited(A, 8, ExitReason::Restarting);
    t.exited(B, 8, ExitReason::Restarting).ready(C, 9).ready(B, 9).ready(A, 9);
    t.log.clear();
    t.at(now + 20_000).exited(B, 9, panic()).did("T0.9 T2.9");
    assert_eq!(t.core.root.count(), 0);
}

#[test]
fn what_its_first_start_took_is_no_crash() {
    let held = || ExitReason::StartFailed(Fault::Retry("port in use".into()));
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin);
    for generation in 1..=7 {
        t.exited(A, generation, held()).at(u64::from(generation) * 3_000);
    }
    t.ready(A, 8).exited(A, 8, panic());
    assert_eq!((t.core.root.count(), t.log.last()), (0, Some(&"S0.9".to_owned())));
}

#[test]
fn a_suspension_is_nobodys_delay() {
    let pause = || Event::Suspended(Duration::from_secs(30));
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).did("S0.1");
    t.now = crate::clock::MonoNs::from_millis(31_000);
    t.event(pause()).at(31_000).did("").at(35_000).did("I0 F");
    t.now = crate::clock::MonoNs::from_millis(65_000);
    t.event(pause()).at(65_000).did("").at(66_000).did("R75 E");
}

#[test]
fn s13_temporary_bystander() {
    let temporary = ChildPlan { restart: Restart::Temporary, ..plan("b", 0, &[]) };
    let group = GroupSpec { strategy: Strategy::OneForAll, ..GroupSpec::new("main") };
    let mut t = Table::grouped(vec![plan("a", 0, &[]), temporary], Vec::new(), &[group]);
    t.event(Event::Begin).ready(A, 1).ready(B, 1).did("S0.1 S1.1");
    t.exited(A, 1, panic()).did("T1.1").exited(B, 1, ExitReason::Restarting).did("S0.2");
    t.ready(A, 2).at(600_000).did("");
}

/// Crashes as soon as ready until the core gives up; the number of generations, and of group restarts.
#[track_caller]
fn lives(crash_every_ms: u64, expect: (u32, usize)) {
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin);
    let (mut generation, mut ms) = (1, 0);
    while !t.log.iter().any(|l| l.starts_with('!')) && generation < 100 {
        ms += crash_every_ms;
        t.at(ms);
        if t.log.iter().any(|l| l == &format!("S0.{generation}")) {
            t.ready(A, generation).exited(A, generation, panic());
            generation += 1;
        }
    }
    let charged = t.core.root.count();
    assert_eq!(
        (generation - 1, charged, t.log.last()),
        (expect.0, expect.1, Some(&"!70".to_owned()))
    );
}

#[test]
fn s14_the_sixth_crash_in_the_window_escalates() {
    // Two actors take turns, so that neither fails often in a row.
    let mut t = Table::new(vec![plan("a", 0, &[]), plan("b", 0, &[])], Vec::new());
    t.event(Event::Begin).ready(A, 1).ready(B, 1).did("S0.1 S1.1");
    for (n, generation) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3)] {
        let actor = ActorId(n % 2);
        t.at(u64::from(n) * 10_000).exited(actor, generation, panic());
        t.at(u64::from(n) * 10_000 + 500).ready(actor, generation + 1);
    }
    t.did("S0.2 S1.2 S0.3 S1.3 S0.4");
    // The sixth within the minute restarts the group, and the root is charged.
    t.at(59_999).exited(B, 3, panic()).did("T0.4").exited(A, 4, ExitReason::Restarting);
    t.at(62_000).did("S0.5 S1.4");
}

#[test]
fn s14_a_crash_after_the_window_does_not_escalate() {
    let mut t = Table::new(vec![plan("a", 0, &[]), plan("b", 0, &[])], Vec::new());
    t.event(Event::Begin).ready(A, 1).ready(B, 1);
    for (n, generation) in [(0, 1), (1, 1), (2, 2), (3, 2), (4, 3)] {
        let actor = ActorId(n % 2);
        t.at(u64::from(n) * 10_000).exited(actor, generation, panic());
        t.at(u64::from(n) * 10_000 + 500).ready(actor, generation + 1);
    }
    t.log.clear();
    t.at(60_001).exited(B, 3, panic()).at(66_000).did("S1.4");
}

#[test]
fn a_burst_ends_after_five_restarts_a_group_restart_and_the_eighth_failure() {
    lives(100, (8, 2));
}

#[test]
fn s15_a_slow_crash_loop_escalates_at_the_eighth_failure() {
    // A start that fails after ten seconds and waits up to five: never six in a minute.
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).ready(A, 1).exited(A, 1, panic());
    let mut ms = 0;
    for generation in 2..=8 {
        ms += 10_000;
        t.now = crate::clock::MonoNs::from_millis(ms);
        t.exited(A, generation, ExitReason::StartFailed(Fault::fatal("no")));
        ms += 5_000;
        t.at(ms);
    }
    // The eighth failure charged the root, and generation 9 is the group's.
    assert_eq!((t.core.root.count(), t.log.last()), (1, Some(&"S0.9".to_owned())));
    t.exited(A, 9, ExitReason::StartFailed(Fault::fatal("no")));
    assert_eq!((t.core.root.count(), t.log.last()), (2, Some(&"!70".to_owned())));
}

#[test]
fn a_system_that_gives_up_over_a_full_disk_says_74() {
    let full = || ExitReason::Fault(Fault::Io("disk full".into()));
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin);
    for generation in 1..=8 {
        t.ready(A, generation).exited(A, generation, full()).at(u64::from(generation) * 6_000);
    }
    assert_eq!(t.log.last(), Some(&"!74".to_owned()));
}

#[test]
fn failed_starts_count_as_attempts() {
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).ready(A, 1).exited(A, 1, panic());
    for generation in 2..=6 {
        t.exited(A, generation, ExitReason::StartFailed(Fault::fatal("no")));
        t.at(u64::from(generation) * 2_000);
    }
    assert_eq!(t.core.root.count(), 1);
}

#[test]
fn s17_the_back_off_starts_anew_after_a_healthy_minute() {
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).ready(A, 1).exited(A, 1, panic()).ready(A, 2).did("S0.1 S0.2");
    t.at(59_999).exited(A, 2, panic()).did("").at(60_059).did("S0.3").ready(A, 3);
    t.at(120_059).exited(A, 3, panic()).did("S0.4");
}

#[test]
fn s18_another_actor_fails_while_a_group_restarts() {
    let mut t = row(Strategy::OneForAll);
    t.exited(C, 1, panic()).exited(A, 1, ExitReason::Restarting).exited(
        B,
        1,
        ExitReason::Restarting,
    );
    t.did("T0.1 T1.1 S2.2").ready(C, 2).did("S1.2");
    // B cannot start again: it is the failed one now, its first failure, and is charged.
    t.exited(B, 2, ExitReason::StartFailed(Fault::fatal("no"))).did("T2.2");
    t.exited(C, 2, ExitReason::Restarting).did("S2.3").ready(C, 3).did("S1.3");
    t.ready(B, 3).did("S0.2").ready(A, 2).did("");
}

#[test]
fn s19_a_stop_in_an_endless_restart_loop_is_heard() {
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).ready(A, 1).exited(A, 1, panic()).exited(A, 2, panic());
    t.exited(A, 3, panic()).did("S0.1 S0.2").drain().did("R76 !0").at(60_000).did("");
}

#[test]
fn s20_a_scheduled_restart_is_replaced_by_the_groups() {
    // B waits for its second restart when C's crash restarts them all: the round starts B once, not twice.
    let mut t = row(Strategy::OneForOne);
    t.exited(B, 1, panic()).exited(B, 2, panic()).did("S1.2");
    for generation in 1..=4 {
        t.exited(C, generation, panic()).at(u64::from(generation)).ready(C, generation + 1);
        t.at(t.now.as_nanos() / 1_000_000 + 500);
        if generation == 1 {
            t.exited(B, 3, panic());
        }
    }
    let starts = |t: &Table, of: &str| t.log.iter().filter(|l| l.starts_with(of)).count();
    assert!(t.core.root.count() == 1 || starts(&t, "S1.") <= 3, "{:?}", t.log);
    let generations: Vec<&String> = t.log.iter().filter(|l| l.starts_with("S1.")).collect();
    let mut once = generations.clone();
    once.dedup();
    assert_eq!(generations, once);
}

#[test]
fn s20_no_resurrection_when_a_drain_comes_in_back_off() {
    let mut t = row(Strategy::OneForAll);
    t.exited(C, 1, panic()).exited(A, 1, ExitReason::Restarting).did("T0.1 T1.1");
    // B is told to end and has not; the others have, and wait for it.
    t.drain().did("R76 X1 D1 P0");
    t.exited(B, 1, ExitReason::Restarting).did("X0 !0").at(60_000).did("");
}

#[test]
fn s23_a_significant_end_ends_the_system() {
    let reader =
        |name| ChildPlan { restart: Restart::Transient, significant: true, ..plan(name, 0, &[]) };
    let group = |auto_shutdown| GroupSpec { auto_shutdown, ..GroupSpec::new("main") };
    let children = || vec![reader("a"), reader("b"), plan("c", 1, &[])];
    let mut t = Table::grouped(children(), Vec::new(), &[group(AutoShutdown::AnySignificant)]);
    t.up().exited(A, 1, ExitReason::Done).did("R76 D1");
    t.exited(B, 1, ExitReason::Drained).did("D2").exited(C, 1, ExitReason::Drained).did("!0");

    let mut t = Table::grouped(children(), Vec::new(), &[group(AutoShutdown::AllSignificant)]);
    t.up().exited(A, 1, ExitReason::Done).did("");
    t.exited(B, 1, panic()).did("S1.2").ready(B, 2);
    t.exited(B, 2, ExitReason::Done).did("R76 D2");
    t.exited(C, 1, ExitReason::Drained).did("!0");

    // One of them failed for good: the end is no success.
    let mut children = children();
    children[0].restart = Restart::Temporary;
    let mut t = Table::grouped(children, Vec::new(), &[group(AutoShutdown::AllSignificant)]);
    t.up().exited(A, 1, panic()).did("").exited(B, 1, ExitReason::Done).did("R76 D2");
    t.exited(C, 1, ExitReason::Drained).did("!70");
}

#[test]
fn s24_a_significant_bystander_ends_nothing() {
    let bystander =
        ChildPlan { restart: Restart::Temporary, significant: true, ..plan("b", 0, &[]) };
    let group = GroupSpec {
        strategy: Strategy::OneForAll,
        auto_shutdown: AutoShutdown::AnySignificant,
        ..GroupSpec::new("main")
    };
    let mut t = Table::grouped(vec![plan("a", 0, &[]), bystander], Vec::new(), &[group]);
    t.event(Event::Begin).ready(A, 1).ready(B, 1).did("S0.1 S1.1");
    t.exited(A, 1, panic()).did("T1.1").exited(B, 1, ExitReason::Restarting).did("S0.2");
    // Reports of the generations before change nothing.
    t.exited(A, 1, panic()).exited(B, 1, ExitReason::Done).ready(B, 1).did("");
    assert_eq!(t.core.stale_events(), 3);
}

#[test]
fn s02_a_first_start_that_fails_stops_the_others_in_reverse() {
    let children = || vec![plan("a", 0, &[B]), plan("b", 1, &[C]), plan("c", 2, &[])];
    let start = || {
        let mut t = Table::new(children(), Vec::new());
        t.event(Event::Begin).ready(C, 1).ready(B, 1).did("S2.1 S1.1 S0.1");
        t
    };
    let end = |t: &mut Table, code: &str| {
        t.did("R76 D1").exited(B, 1, ExitReason::Drained).did("D2");
        t.exited(C, 1, ExitReason::Drained).did(code);
    };
    let mut t = start();
    t.exited(A, 1, ExitReason::StartFailed(Fault::Config("bad".into())));
    end(&mut t, "!78");
    let mut t = start();
    t.exited(A, 1, ExitReason::StartFailed(Fault::fatal("no")));
    end(&mut t, "!70");
    let mut t = start();
    t.exited(A, 1, panic());
    end(&mut t, "!70");
}

#[test]
fn a_first_start_that_may_succeed_later_is_tried_until_its_deadline() {
    let held = || ExitReason::StartFailed(Fault::Retry("port in use".into()));
    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin).exited(A, 1, held()).at(0).exited(A, 2, held()).at(60).ready(A, 3);
    t.did("S0.1 S0.2 S0.3");

    let mut t = Table::solo(Restart::Permanent);
    t.event(Event::Begin);
    let mut generation = 1;
    for ms in (0..60_000).step_by(10) {
        t.at(ms);
        if t.log.last().is_some_and(|l| l == &format!("S0.{generation}")) {
            t.exited(A, generation, held());
            generation += 1;
        }
    }
    assert_eq!(t.log.last(), Some(&"!69".to_owned()));
    assert!(generation > 8, "{generation}");
    // Trying was no crash: nobody was charged.
    assert_eq!(t.core.root.count(), 0);
    assert!(t.core.reason().is_some_and(|r| r.text.contains("could not start")));
}

#[test]
fn groups_do_not_feel_each_other() {
    let other = super::super::group::GroupId(1);
    let children = vec![
        plan("a", 0, &[]),
        ChildPlan { group: other, ..plan("b", 0, &[]) },
        ChildPlan { group: other, ..plan("c", 0, &[B]) },
    ];
    let all = |name| GroupSpec { strategy: Strategy::OneForAll, ..GroupSpec::new(name) };
    let mut t = Table::grouped(children, Vec::new(), &[all("x"), all("y")]);
    t.event(Event::Begin).ready(A, 1).ready(B, 1).ready(C, 1).did("S0.1 S1.1 S2.1");
    t.exited(A, 1, panic()).did("S0.2").ready(A, 2);
    t.exited(B, 1, panic()).did("T2.1").exited(C, 1, ExitReason::Restarting).did("S1.2");
    t.ready(B, 2).did("S2.2");
}

#[test]
fn a_round_waits_as_long_as_the_back_off_says() {
    let mut t = row(Strategy::RestForOne);
    t.exited(A, 1, panic()).did("S0.2").ready(A, 2).exited(A, 2, panic()).did("");
    assert!(t.core.next_due().since(t.now) <= Duration::from_millis(60));
    t.at(60).did("S0.3");
}
