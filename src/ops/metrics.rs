//! The status as Prometheus text, version 0.0.4: one status in, one page out.
//!
//! Written by hand, after weighing `prometheus-client`: that crate wants to own the counters, and ours exist (cells,
//! mailboxes, views); 14 crates would buy what `Page` does. Units are in the names: `_seconds`, `_bytes`, `_total`
//! for what only grows.

use std::fmt::{Display, Write};

use super::health::Health;
use super::status::{ActorStatus, MailboxStatus, Status};
use super::supervision::SupervisorStatus;

/// The content type of the page.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Every state, so that each has a series that is 0 or 1.
const STATES: [&str; 8] =
    ["starting", "reconciling", "live", "degraded", "cancel_only", "halted", "draining", "stopped"];

/// A page under construction: families of samples, each with its help and type.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// Begins a family: the samples that follow belong to it.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a string does not fail, here and below.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.text.push_str(name);
        for (index, (key, label)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{key}=\"{}\"", Label(label));
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }
}

/// A label value with backslash, quote and newline escaped.
struct Label<'a>(&'a str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for c in self.0.chars() {
            match c {
                '\\' => f.write_str("\\\\")?,
                '"' => f.write_str("\\\"")?,
                '\n' => f.write_str("\\n")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The page of a status.
pub fn render(status: &Status, health: &Health) -> String {
    let mut page = Page::default();
    engine(&mut page, status, health);
    supervisor(&mut page, &status.supervisor);
    actors(&mut page, &status.actors);
    mailboxes(&mut page, &status.actors);
    feeds(&mut page, status);
    books(&mut page, status);
    orders(&mut page, status);
    positions(&mut page, status);
    latencies(&mut page, status);
    journal(&mut page, status);
    page.text
}

fn engine(page: &mut Page, status: &Status, health: &Health) {
    page.family("pindrop_build_info", "gauge", "Version and mode of the engine; always 1.");
    let labels = [("version", status.version.as_str()), ("mode", status.mode.as_str())];
    page.sample("pindrop_build_info", &labels, 1);
    page.family("pindrop_uptime_seconds", "gauge", "Since the engine began.");
    page.sample("pindrop_uptime_seconds", &[], seconds_from_ms(status.uptime_ms));
    page.family("pindrop_state", "gauge", "1 for the state the engine is in.");
    for state in STATES {
        page.sample("pindrop_state", &[("state", state)], u8::from(state == status.state));
    }
    page.family("pindrop_healthy", "gauge", "1 when /health answers 200.");
    page.sample("pindrop_healthy", &[], u8::from(health.http_status() == 200));
    page.family("pindrop_rate_limit_used", "gauge", "Used in the running window.");
    for limit in &status.rate_limits {
        page.sample("pindrop_rate_limit_used", &[("name", &limit.name)], limit.used);
    }
    page.family("pindrop_rate_limit_allowed", "gauge", "Allowed per window.");
    for limit in &status.rate_limits {
        page.sample("pindrop_rate_limit_allowed", &[("name", &limit.name)], limit.limit);
    }
}

type ActorSeries = (&'static str, &'static str, &'static str, fn(&ActorStatus) -> String);

fn actors(page: &mut Page, actors: &[ActorStatus]) {
    let series: [ActorSeries; 15] = [
        ("pindrop_actor_up", "gauge", "1 while the actor takes turns.", |a| {
            u8::from(matches!(a.state, "running" | "draining")).to_string()
        }),
        ("pindrop_actor_stalled", "gauge", "1 while the actor makes no progress.", |a| {
            u8::from(a.stalled).to_string()
        }),
        ("pindrop_actor_restarts_total", "counter", "Restarts.", |a| a.restarts.to_string()),
        ("pindrop_actor_turns_total", "counter", "Turns taken.", |a| a.turns.to_string()),
        ("pindrop_actor_busy_turns_total", "counter", "Turns with work.", |a| {
            a.busy_turns.to_string()
        }),
        ("pindrop_actor_beat_age_seconds", "gauge", "Since the last turn.", |a| {
            seconds_from_ms(a.beat_age_ms).to_string()
        }),
        ("pindrop_actor_turn_max_seconds", "gauge", "The longest turn.", |a| {
            (a.turn_max_us as f64 / 1e6).to_string()
        }),
        ("pindrop_actor_long_turns_total", "counter", "Turns beyond 100 ms.", |a| {
            a.long_turns.to_string()
        }),
        ("pindrop_actor_consecutive_failures", "gauge", "Failures in a row.", |a| {
            a.consecutive.to_string()
        }),
        ("pindrop_actor_messages_in_total", "counter", "Messages taken.", |a| {
            a.messages_in.to_string()
        }),
        ("pindrop_actor_messages_out_total", "counter", "Messages offered alone.", |a| {
            a.messages_out.to_string()
        }),
        ("pindrop_actor_lost_in_flight_total", "counter", "In hand at a panic.", |a| {
            a.in_flight_lost.to_string()
        }),
        ("pindrop_actor_stalls_total", "counter", "Times without progress.", |a| {
            a.stalls.to_string()
        }),
        ("pindrop_actor_interrupted_total", "counter", "Uses of interrupt handles.", |a| {
            a.interrupted.to_string()
        }),
        ("pindrop_actor_cpu_seconds_total", "counter", "Its thread's time on a core.", |a| {
            seconds_from_ms(a.cpu_ms).to_string()
        }),
    ];
    for (name, kind, help, value) in series {
        page.family(name, kind, help);
        for actor in actors {
            page.sample(name, &[("actor", &actor.id)], value(actor));
        }
    }
    let name = "pindrop_actor_switches_total";
    page.family(name, "counter", "Context switches of its thread.");
    for a in actors {
        for (kind, n) in
            [("voluntary", a.switches_voluntary), ("involuntary", a.switches_involuntary)]
        {
            page.sample(name, &[("actor", &a.id), ("kind", kind)], n);
        }
    }
}

fn supervisor(page: &mut Page, status: &SupervisorStatus) {
    let series = [
        ("pindrop_suspended_total", "counter", "Pauses of the whole process.", status.suspended),
        ("pindrop_stale_events_total", "counter", "Reports that came late.", status.stale_events),
        ("pindrop_pins_lost_total", "counter", "Threads found off their core.", status.pins_lost),
        (
            "pindrop_overprovisioned",
            "gauge",
            "1 with fewer cores than hot threads.",
            u64::from(status.overprovisioned),
        ),
    ];
    for (name, kind, help, value) in series {
        page.family(name, kind, help);
        page.sample(name, &[], value);
    }
    let name = "pindrop_errors_total";
    page.family(name, "counter", "Errors of actors by place.");
    for e in &status.errors {
        page.sample(name, &[("actor", &e.actor), ("kind", e.kind), ("at", &e.at)], e.count);
    }
}

type MailboxSeries = (&'static str, &'static str, &'static str, fn(&MailboxStatus) -> u64);

fn mailboxes(page: &mut Page, actors: &[ActorStatus]) {
    let series: [MailboxSeries; 8] = [
        ("pindrop_mailbox_depth", "gauge", "Messages waiting.", |m| m.depth),
        ("pindrop_mailbox_capacity", "gauge", "Most that may wait.", |m| m.capacity as u64),
        ("pindrop_mailbox_high_water", "gauge", "Most that ever waited.", |m| m.high_water),
        ("pindrop_mailbox_refused_total", "counter", "Offers that came back.", |m| m.refused),
        ("pindrop_mailbox_dropped_total", "counter", "Messages dropped.", |m| m.dropped),
        ("pindrop_mailbox_conflated_total", "counter", "Values replaced by newer ones.", |m| {
            m.conflated
        }),
        ("pindrop_mailbox_sent_total", "counter", "Offers made.", |m| m.sent),
        ("pindrop_mailbox_handled_total", "counter", "Messages handled.", |m| m.handled),
    ];
    for (name, kind, help, value) in series {
        page.family(name, kind, help);
        for actor in actors {
            for mailbox in &actor.mailboxes {
                let labels = [("edge", mailbox.edge.as_str()), ("actor", actor.id.as_str())];
                page.sample(name, &labels, value(mailbox));
            }
        }
    }
    let name = "pindrop_dead_letters_total";
    page.family(name, "counter", "Messages dropped, by reason.");
    for actor in actors {
        for mailbox in &actor.mailboxes {
            for (reason, count) in &mailbox.dropped_by {
                page.sample(name, &[("edge", &mailbox.edge), ("reason", reason)], count);
            }
        }
    }
}

fn feeds(page: &mut Page, status: &Status) {
    page.family("pindrop_feed_messages_total", "counter", "Updates read.");
    for feed in &status.feeds {
        let labels = [("venue", feed.venue.as_str()), ("symbol", feed.symbol.as_str())];
        page.sample("pindrop_feed_messages_total", &labels, feed.messages);
    }
    page.family("pindrop_feed_reconnects_total", "counter", "Connections after the first.");
    for feed in &status.feeds {
        let labels = [("venue", feed.venue.as_str()), ("symbol", feed.symbol.as_str())];
        page.sample("pindrop_feed_reconnects_total", &labels, feed.reconnects);
    }
    page.family("pindrop_feed_gaps_total", "counter", "Holes found.");
    for feed in &status.feeds {
        let labels = [("venue", feed.venue.as_str()), ("symbol", feed.symbol.as_str())];
        page.sample("pindrop_feed_gaps_total", &labels, feed.gaps);
    }
    page.family("pindrop_feed_last_update_age_seconds", "gauge", "Since the last update.");
    for feed in &status.feeds {
        let labels = [("venue", feed.venue.as_str()), ("symbol", feed.symbol.as_str())];
        if let Some(age_ms) = feed.last_update_age_ms {
            page.sample("pindrop_feed_last_update_age_seconds", &labels, seconds_from_ms(age_ms));
        }
    }
}

fn books(page: &mut Page, status: &Status) {
    page.family("pindrop_book_live", "gauge", "1 while the book may be traded on.");
    for book in &status.books {
        let labels = [("venue", book.venue.as_str()), ("symbol", book.symbol.as_str())];
        page.sample("pindrop_book_live", &labels, u8::from(book.state == "live"));
    }
    page.family("pindrop_book_price", "gauge", "The touch, in the quote asset.");
    for book in &status.books {
        for (side, price) in [("bid", &book.bid), ("ask", &book.ask)] {
            let (venue, symbol) = (book.venue.as_str(), book.symbol.as_str());
            let labels = [("venue", venue), ("symbol", symbol), ("side", side)];
            if let Some(price) = price {
                page.sample("pindrop_book_price", &labels, price);
            }
        }
    }
}

fn orders(page: &mut Page, status: &Status) {
    let orders = &status.orders;
    page.family("pindrop_orders_open", "gauge", "Orders that are not done.");
    page.sample("pindrop_orders_open", &[], orders.open);
    page.family("pindrop_orders_unknown", "gauge", "Orders whose fate is being queried.");
    page.sample("pindrop_orders_unknown", &[], orders.unknown);
    page.family("pindrop_orders_total", "counter", "Orders by what became of them.");
    let outcomes = [
        ("sent", orders.sent),
        ("acknowledged", orders.acknowledged),
        ("filled", orders.filled),
        ("cancelled", orders.cancelled),
        ("rejected", orders.rejected),
        ("expired", orders.expired),
        ("withdrawn", orders.withdrawn),
    ];
    for (outcome, count) in outcomes {
        page.sample("pindrop_orders_total", &[("outcome", outcome)], count);
    }
    page.family("pindrop_orders_stuck", "gauge", "Open orders the venue refuses to cancel.");
    page.sample("pindrop_orders_stuck", &[], orders.stuck);
    let help = "Times that an order sender did not run for long and compared before it went on.";
    page.family("pindrop_orders_suspended_total", "counter", help);
    page.sample("pindrop_orders_suspended_total", &[], orders.suspended);
    page.family("pindrop_fills_total", "counter", "Fills, partial ones counted each.");
    page.sample("pindrop_fills_total", &[], orders.fills);
    page.family("pindrop_orders_refused_total", "counter", "Intents refused, by reason.");
    for (reason, count) in &orders.refused {
        page.sample("pindrop_orders_refused_total", &[("reason", reason)], count);
    }
}

fn positions(page: &mut Page, status: &Status) {
    page.family("pindrop_position", "gauge", "Net quantity, in the base asset.");
    for position in &status.positions {
        let labels = [("venue", position.venue.as_str()), ("symbol", position.symbol.as_str())];
        page.sample("pindrop_position", &labels, &position.qty);
    }
    page.family("pindrop_pnl", "gauge", "Profit, in the quote asset.");
    for position in &status.positions {
        let profits =
            [("realized", &position.realized_pnl), ("unrealized", &position.unrealized_pnl)];
        for (kind, amount) in profits {
            let (venue, symbol) = (position.venue.as_str(), position.symbol.as_str());
            let labels = [("venue", venue), ("symbol", symbol), ("kind", kind)];
            page.sample("pindrop_pnl", &labels, amount);
        }
    }
    page.family("pindrop_equity", "gauge", "Equity by quote asset.");
    for (asset, amount) in &status.equity {
        page.sample("pindrop_equity", &[("asset", asset)], amount);
    }
}

fn latencies(page: &mut Page, status: &Status) {
    page.family("pindrop_latency_seconds", "gauge", "Latency quantiles since the start.");
    for (name, latency) in &status.latency_us {
        let quantiles = [
            ("0.5", latency.p50),
            ("0.99", latency.p99),
            ("0.999", latency.p999),
            ("1", latency.max),
        ];
        for (quantile, us) in quantiles {
            let labels = [("name", name.as_str()), ("quantile", quantile)];
            page.sample("pindrop_latency_seconds", &labels, us / 1e6);
        }
    }
    page.family("pindrop_latency_measured_total", "counter", "How often it was measured.");
    for (name, latency) in &status.latency_us {
        page.sample("pindrop_latency_measured_total", &[("name", name)], latency.count);
    }
}

fn journal(page: &mut Page, status: &Status) {
    let Some(journal) = &status.journal else { return };
    page.family("pindrop_journal_records_total", "counter", "Records written.");
    page.sample("pindrop_journal_records_total", &[], journal.records);
    page.family("pindrop_journal_written_bytes_total", "counter", "Bytes written.");
    page.sample("pindrop_journal_written_bytes_total", &[], journal.bytes);
    page.family("pindrop_journal_dropped_total", "counter", "Market records dropped.");
    page.sample("pindrop_journal_dropped_total", &[], journal.holes);
}

fn seconds_from_ms(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}
