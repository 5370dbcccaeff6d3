//! Cancelling everything without the actor: the last resort when the order sender does not answer.
//!
//! Comes in: signed requests, one per instrument, and an HTTP client of one's own. Goes out: how many the venue
//! confirmed. What always holds: it ends at the deadline, whatever the venue does, and asks each question at most
//! three times. It shares nothing with the actor, which may hold anything in a broken state.

use std::time::Duration;

use crate::clock::{Clock, MonoNs};
use crate::net::{HttpClient, HttpRequest};

/// How often each request is tried.
const TRIES: usize = 3;

/// What was achieved.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cancelled {
    /// Requests the venue confirmed, or answered that there was nothing to cancel.
    pub confirmed: usize,
    /// Requests without such an answer: orders may be open there.
    pub unconfirmed: usize,
    /// The last thing that went wrong; empty if nothing did. Without query strings.
    pub last_error: String,
}

/// Sends each request until the venue confirms it, the tries are used up, or `limit` has passed.
///
/// `request(i)` makes the request of instrument number `i` afresh, with the present time in its signature, or
/// `None` behind the last. `nothing_open` says whether an answer means that there was nothing to cancel (Binance:
/// status 400 with code -2011). `idle` is called while the client works: a real caller rests there for a
/// millisecond, the simulation advances its clock.
pub fn cancel_everything(
    client: &mut dyn HttpClient,
    clock: &Clock,
    limit: Duration,
    request: &mut dyn FnMut(usize) -> Option<HttpRequest>,
    nothing_open: &dyn Fn(u16, &[u8]) -> bool,
    idle: &mut dyn FnMut(),
) -> Cancelled {
    let deadline = clock.now().after(limit);
    let mut achieved = Cancelled::default();
    let mut number = 0;
    while let Some(first) = request(number) {
        let mut attempt = Some(first);
        let mut confirmed = false;
        for _ in 0..TRIES {
            let Some(call) = attempt.take().or_else(|| request(number)) else { break };
            match call_once(client, clock, deadline, call, nothing_open, idle) {
                Ok(()) => {
                    confirmed = true;
                    break;
                }
                Err(why) => achieved.last_error = why,
            }
        }
        if confirmed {
            achieved.confirmed += 1;
        } else {
            achieved.unconfirmed += 1;
        }
        number += 1;
    }
    achieved
}

fn call_once(
    client: &mut dyn HttpClient,
    clock: &Clock,
    deadline: MonoNs,
    call: HttpRequest,
    nothing_open: &dyn Fn(u16, &[u8]) -> bool,
    idle: &mut dyn FnMut(),
) -> Result<(), String> {
    let now = clock.now();
    let left = deadline.since(now);
    if left.is_zero() {
        return Err("the deadline passed".to_owned());
    }
    client.begin(call, left, now);
    loop {
        let now = clock.now();
        match client.poll(now) {
            Some(Ok(answer))
                if answer.status == 200 || nothing_open(answer.status, &answer.body) =>
            {
                return Ok(());
            }
            Some(Ok(answer)) => return Err(format!("status {}", answer.status)),
            Some(Err(error)) => return Err(error.to_string()),
            None if now >= deadline => return Err("the deadline passed".to_owned()),
            None => idle(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{UtcNs, VirtualClock};
    use crate::net::{HttpResponse, NetError};

    /// Answers each call with the next status; `None` never answers.
    struct Scripted {
        answers: Vec<Option<u16>>,
        open: Option<Option<u16>>,
        calls: usize,
    }

    impl HttpClient for Scripted {
        fn begin(&mut self, _request: HttpRequest, _timeout: Duration, _now: MonoNs) {
            self.open = self.answers.get(self.calls).copied();
            self.calls += 1;
        }

        fn poll(&mut self, _now: MonoNs) -> Option<Result<HttpResponse, NetError>> {
            let status = self.open??;
            Some(Ok(HttpResponse { status, headers: Vec::new(), body: Vec::new() }))
        }

        fn blocks(&self) -> bool {
            false
        }
    }

    #[track_caller]
    fn check(answers: &[Option<u16>], instruments: usize, expect: (usize, usize), calls: usize) {
        let time = VirtualClock::new(UtcNs::default());
        let clock = Clock::Virtual(time.clone());
        let mut client = Scripted { answers: answers.to_vec(), open: None, calls: 0 };
        let mut request = |number: usize| {
            (number < instruments).then(|| HttpRequest {
                method: "DELETE",
                base_url: String::new(),
                target: String::new(),
                headers: Vec::new(),
                body: Vec::new(),
            })
        };
        let achieved = cancel_everything(
            &mut client,
            &clock,
            Duration::from_secs(3),
            &mut request,
            &|status, _| status == 400,
            &mut || time.advance(Duration::from_millis(1)),
        );
        assert_eq!((achieved.confirmed, achieved.unconfirmed), expect);
        assert_eq!(client.calls, calls);
        assert!(clock.now() <= MonoNs::from_millis(3_000));
    }

    #[test]
    fn every_instrument_is_asked_until_it_is_confirmed() {
        check(&[Some(200), Some(400)], 2, (2, 0), 2);
        check(&[Some(503), Some(200), Some(200)], 2, (2, 0), 3);
        check(&[Some(500); 6], 2, (0, 2), 6);
    }

    #[test]
    fn a_venue_that_is_silent_costs_the_limit_and_no_more() {
        check(&[None], 2, (0, 2), 1);
    }
}
