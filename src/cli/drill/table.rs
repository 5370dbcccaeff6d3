//! What a drill came to, as a row of a table or as JSON. In: facts. Out: text. What always holds: a reason stands
//! beside everything that did not pass.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::{Value, json};

use super::stage::{Facts, Halt, short};

/// What a drill came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The promise was kept.
    Passed,
    /// It was not.
    Broken,
    /// Nothing was proved, for there was nothing to break.
    Skipped,
    /// Nothing was proved, for the drill itself failed.
    NotPlayed,
}

impl Verdict {
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Broken => "BROKEN",
            Self::Skipped => "skipped",
            Self::NotPlayed => "not played",
        }
    }
}

/// One row.
pub(super) struct Row {
    pub(super) name: String,
    pub(super) promise: &'static str,
    pub(super) verdict: Verdict,
    pub(super) facts: Facts,
    /// Why nothing was proved.
    pub(super) unproved: Option<String>,
    pub(super) took: Duration,
    /// Where the logs are, if they were kept.
    pub(super) folder: Option<PathBuf>,
}

impl Row {
    /// The row of a drill that ended with `halt`, or with nothing.
    pub(super) fn new(
        name: &str,
        promise: &'static str,
        mut facts: Facts,
        halt: Option<Halt>,
        took: Duration,
    ) -> Self {
        let (mut verdict, unproved) = match halt {
            None => (Verdict::Passed, None),
            Some(Halt::Broken(why)) => {
                facts.wrong.push(why);
                (Verdict::Broken, None)
            }
            Some(Halt::Skipped(why) | Halt::Unproved(why)) => (Verdict::Skipped, Some(why)),
            Some(Halt::Interrupted(signal)) => {
                (Verdict::Skipped, Some(format!("interrupted by {signal}")))
            }
            Some(Halt::System(why)) => (Verdict::NotPlayed, Some(why)),
        };
        if !facts.wrong.is_empty() {
            verdict = Verdict::Broken;
        }
        Self { name: name.to_owned(), promise, verdict, facts, unproved, took, folder: None }
    }

    /// What is wrong, or why nothing was proved.
    pub(super) fn reasons(&self) -> Vec<&str> {
        self.facts.wrong.iter().chain(&self.unproved).map(String::as_str).collect()
    }

    fn cells(&self) -> [String; 7] {
        let or_dash = |n: Option<String>| n.unwrap_or_else(|| "-".to_owned());
        [
            self.name.clone(),
            self.verdict.label().to_owned(),
            or_dash(self.facts.exit_code.map(|n| n.to_string())),
            self.facts.restarts.to_string(),
            or_dash(self.facts.orders_left.map(|n| n.to_string())),
            short(self.took),
            self.facts.told.join(", "),
        ]
    }

    fn json(&self) -> Value {
        let ms = |time: Duration| (time.as_secs_f64() * 1e6).round() / 1e3;
        let measured: serde_json::Map<String, Value> = self
            .facts
            .measured
            .iter()
            .map(|(what, time)| (format!("{}_ms", what.replace(' ', "_")), json!(ms(*time))))
            .collect();
        json!({
            "name": self.name, "promise": self.promise, "verdict": self.verdict.label().to_lowercase(),
            "reasons": self.reasons(), "happened": self.facts.told, "measured": measured,
            "exit_code": self.facts.exit_code, "restarts": self.facts.restarts,
            "orders_left": self.facts.orders_left, "took_ms": ms(self.took), "folder": self.folder,
        })
    }
}

/// How many rows came to `verdict`.
pub(super) fn count(rows: &[Row], verdict: Verdict) -> usize {
    rows.iter().filter(|row| row.verdict == verdict).count()
}

/// The lines of the table, and a last one that sums up.
pub(super) fn lines(rows: &[Row], took: Duration) -> Vec<String> {
    const HEAD: [&str; 7] =
        ["drill", "result", "exit", "restarts", "left", "took", "what happened"];
    let cells: Vec<[String; 7]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(Row::cells)).collect();
    let width = |column: usize| cells.iter().map(|c| c[column].len()).max().unwrap_or(0);
    let widths: [usize; 7] = std::array::from_fn(width);
    let mut lines = Vec::new();
    for (at, row) in cells.iter().enumerate() {
        let [name, result, exit, restarts, left, took, happened] = row;
        let [w0, w1, w2, w3, w4, w5, _] = widths;
        let line = format!(
            "{name:w0$}  {result:w1$}  {exit:>w2$}  {restarts:>w3$}  {left:>w4$}  {took:>w5$}  {happened}"
        );
        lines.push(line.trim_end().to_owned());
        let Some(row) = at.checked_sub(1).and_then(|at| rows.get(at)) else { continue };
        lines.extend(row.reasons().iter().map(|why| format!("  ! {why}")));
        if row.verdict == Verdict::Broken {
            lines.push(format!("  ! the promise: {}", row.promise));
        }
        if row.verdict != Verdict::Passed {
            lines.extend(row.folder.iter().map(|dir| format!("  ! logs: {}", dir.display())));
        }
    }
    let counts = [Verdict::Passed, Verdict::Broken, Verdict::Skipped, Verdict::NotPlayed]
        .map(|verdict| format!("{} {}", count(rows, verdict), verdict.label().to_lowercase()));
    lines.push(format!("{} drills in {}: {}", rows.len(), short(took), counts.join(", ")));
    lines
}

/// Everything, as one JSON object; `ok` is whether the exit code is 0.
pub(super) fn json(rows: &[Row], changes: &[String], took: Duration, ok: bool) -> Value {
    json!({
        "ok": ok,
        "passed": count(rows, Verdict::Passed),
        "broken": count(rows, Verdict::Broken),
        "skipped": count(rows, Verdict::Skipped),
        "not_played": count(rows, Verdict::NotPlayed),
        "took_ms": took.as_millis(),
        "changes": changes,
        "drills": rows.iter().map(Row::json).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(wrong: &[&str], halt: Option<Halt>) -> Row {
        let wrong = wrong.iter().map(|w| (*w).to_owned()).collect();
        let facts = Facts { wrong, exit_code: Some(0), ..Facts::default() };
        Row::new("x", "It holds.", facts, halt, Duration::from_millis(1_500))
    }

    #[test]
    fn a_broken_promise_is_never_hidden() {
        let check = |row: Row, verdict| assert_eq!(row.verdict, verdict, "{:?}", row.reasons());
        check(row(&[], None), Verdict::Passed);
        check(row(&["late"], None), Verdict::Broken);
        check(row(&[], Some(Halt::Broken("late".to_owned()))), Verdict::Broken);
        check(row(&[], Some(Halt::Skipped("quiet".to_owned()))), Verdict::Skipped);
        check(row(&["late"], Some(Halt::Skipped("quiet".to_owned()))), Verdict::Broken);
        check(row(&[], Some(Halt::System("no room".to_owned()))), Verdict::NotPlayed);
    }

    #[test]
    fn the_table_says_why() {
        let rows = [row(&["late"], None), row(&[], None)];
        let text = lines(&rows, Duration::from_secs(3)).join("\n");
        assert!(text.contains("! late") && text.contains("! the promise: It holds."), "{text}");
        assert!(
            text.ends_with("2 drills in 3.0 s: 1 passed, 1 broken, 0 skipped, 0 not played"),
            "{text}"
        );
        let value = json(&rows, &[], Duration::from_secs(3), false);
        assert_eq!((value["ok"].clone(), value["broken"].clone()), (json!(false), json!(1)));
        assert_eq!(value["drills"][0]["reasons"][0], "late");
    }
}
