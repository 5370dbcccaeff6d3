//! The edges: which mailbox joins whom, how large it is and what happens when it is full (design, section 4).
//!
//! Names are `from->to`; capacities are argued in [`limits`]; a configured `mailbox` sizes the main edge of its actor.

use crate::config::{Config, StrategyConfig, VenueConfig};
use crate::runtime::actor::ActorId;
use crate::runtime::mailbox::{EdgeSpec, Latest, Mailbox, OnRestart, Overflow};
use crate::runtime::system::SystemBuilder;
use crate::runtime::view::View;
use crate::trading::domain::{
    Entry, ExecutionReport, InstrumentId, MarketUpdate, OrderIntent, SnapshotRequest, TopOfBook,
    Trade, Written,
};
use crate::trading::limits;
use crate::trading::order::vault::Vault;
use crate::trading::telemetry::{BooksView, FeedView, OrdersView, RestView, StrategyView};

use super::VenueAccess;

/// What travels on an edge decides its policy.
#[derive(Clone, Copy)]
enum Cargo {
    /// A stream that is useless with a hole.
    Deltas,
    /// Pieces of a snapshot: the worker offers them again.
    Snapshots,
    /// Requests for snapshots: asked again when nobody answers.
    Requests,
    /// The newest touch of each instrument.
    Touch,
    /// Trades in the market.
    Trades,
    /// Order intents: never replayed to another generation.
    Intents,
    /// Execution reports: none may be lost.
    Reports,
    /// Records that are written before they are acted on.
    OrderRecords,
    /// Records that may have holes.
    MarketRecords,
}

impl Cargo {
    fn policy(self) -> (usize, Overflow, OnRestart) {
        use OnRestart::{Discard, Keep};
        match self {
            Self::Deltas => (limits::FEED_MAILBOX, Overflow::Resync, Discard),
            Self::Snapshots => (limits::FEED_MAILBOX, Overflow::Refuse, Discard),
            Self::Requests => (limits::REST_MAILBOX, Overflow::Refuse, Keep),
            // One slot per instrument: the caller says how many.
            Self::Touch => (1, Overflow::DropNewest, Discard),
            Self::Trades => (limits::TRADE_MAILBOX, Overflow::DropNewest, Discard),
            Self::Intents => (limits::INTENT_MAILBOX, Overflow::Refuse, OnRestart::Refuse),
            Self::Reports => (limits::REPORT_MAILBOX, Overflow::Refuse, Keep),
            Self::OrderRecords => (limits::JOURNAL_MAILBOX, Overflow::Refuse, Keep),
            Self::MarketRecords => (limits::JOURNAL_MAILBOX, Overflow::DropNewest, Keep),
        }
    }

    fn edge(self, name: String, from: Vec<ActorId>, to: ActorId) -> EdgeSpec {
        let (capacity, overflow, on_restart) = self.policy();
        EdgeSpec { name, from, to, capacity, overflow, on_restart }
    }

    /// The same with another capacity.
    fn sized(
        self,
        name: String,
        from: Vec<ActorId>,
        to: ActorId,
        capacity: Option<usize>,
    ) -> EdgeSpec {
        let edge = self.edge(name, from, to);
        EdgeSpec { capacity: capacity.unwrap_or(edge.capacity), ..edge }
    }
}

/// The actors of one venue.
#[derive(Clone, Copy)]
pub(super) struct VenueActors {
    pub(super) feed: ActorId,
    pub(super) book: ActorId,
    pub(super) rest: ActorId,
    pub(super) orders: ActorId,
}

/// Names the actors of all venues and strategies, in flow order: on a shared thread they take their turns in the order of
/// their ids, so that an update passes all of them in one round.
pub(super) fn name_actors(
    config: &Config,
    builder: &mut SystemBuilder,
) -> (Vec<VenueActors>, Vec<ActorId>) {
    let market: Vec<(ActorId, ActorId)> = config
        .venues
        .iter()
        .map(|v| {
            let feed = builder.actor(&format!("feed-{}", v.name), true);
            (feed, builder.actor(&format!("book-{}", v.name), true))
        })
        .collect();
    let strategy = |s: &StrategyConfig| builder.actor(&format!("strategy-{}", s.name), true);
    let strategies = config.strategies.iter().map(strategy).collect();
    let venues = config.venues.iter().zip(market).map(|(v, (feed, book))| VenueActors {
        feed,
        book,
        orders: builder.actor(&format!("orders-{}", v.name), true),
        rest: builder.actor(&format!("rest-{}", v.name), false),
    });
    (venues.collect(), strategies)
}

/// One venue: its actors, what joins them, what they show.
pub(super) struct VenueWires {
    pub(super) config: VenueConfig,
    pub(super) access: VenueAccess,
    pub(super) mine: Vec<InstrumentId>,
    pub(super) actors: VenueActors,
    pub(super) updates: Mailbox<MarketUpdate>,
    pub(super) requests: Mailbox<SnapshotRequest>,
    pub(super) snapshots: Mailbox<MarketUpdate>,
    /// The touch, for the order sender.
    pub(super) tops: Latest<TopOfBook>,
    pub(super) intents: Mailbox<OrderIntent>,
    pub(super) records: Mailbox<Entry>,
    pub(super) written: Written,
    pub(super) vault: Vault,
    pub(super) feed_view: View<FeedView>,
    pub(super) rest_view: View<RestView>,
    pub(super) book_view: View<BooksView>,
    pub(super) order_view: View<OrdersView>,
}

/// What the edges of a venue need to know besides its own configuration.
pub(super) struct VenuePlace<'a> {
    pub(super) config: &'a Config,
    /// The venue's index in the configuration.
    pub(super) index: usize,
    pub(super) access: VenueAccess,
    pub(super) mine: Vec<InstrumentId>,
    /// Instruments of the whole engine.
    pub(super) instruments: usize,
    /// The strategies that trade here.
    pub(super) traders: Vec<ActorId>,
    pub(super) journal: ActorId,
}

impl VenueWires {
    pub(super) fn new(
        place: VenuePlace<'_>,
        actors: VenueActors,
        builder: &mut SystemBuilder,
    ) -> Self {
        let VenuePlace { config, index, access, mine, instruments, traders, journal } = place;
        let venue = config.venues[index].clone();
        let VenueActors { feed, book, rest, orders } = actors;
        let name = &venue.name;
        let mailbox = |actor: &str| config.actors.get(actor).and_then(|a| a.mailbox);
        let (for_book, for_orders, for_journal) = (
            mailbox(&format!("book-{name}")),
            mailbox(&format!("orders-{name}")),
            mailbox("journal"),
        );
        let to_book = format!("feed-{name}->book-{name}");
        let to_orders = format!("strategies->orders-{name}");
        let to_journal = format!("orders-{name}->journal");
        let asks = format!("book-{name}->rest-{name}");
        let answers = format!("rest-{name}->book-{name}");
        let touch = format!("book-{name}->orders-{name}");
        Self {
            updates: builder.mailbox(Cargo::Deltas.sized(to_book, vec![feed], book, for_book)),
            requests: builder.mailbox(Cargo::Requests.edge(asks, vec![book], rest)),
            snapshots: builder.mailbox(Cargo::Snapshots.edge(answers, vec![rest], book)),
            tops: builder.latest(Cargo::Touch.sized(touch, vec![book], orders, Some(instruments))),
            intents: builder.mailbox(Cargo::Intents.sized(to_orders, traders, orders, for_orders)),
            records: builder.mailbox(Cargo::OrderRecords.sized(
                to_journal,
                vec![orders],
                journal,
                for_journal,
            )),
            config: venue,
            access,
            mine,
            actors,
            written: Written::default(),
            vault: Vault::new(instruments),
            feed_view: View::new(),
            rest_view: View::new(),
            book_view: View::new(),
            order_view: View::new(),
        }
    }
}

/// One strategy: its actor, what joins it, what it shows.
pub(super) struct StrategyWires {
    pub(super) config: StrategyConfig,
    pub(super) number: u8,
    pub(super) id: ActorId,
    /// The index of its venue.
    pub(super) venue: usize,
    pub(super) tops: Latest<TopOfBook>,
    pub(super) trades: Mailbox<Trade>,
    pub(super) reports: Mailbox<ExecutionReport>,
    pub(super) view: View<StrategyView>,
}

impl StrategyWires {
    pub(super) fn new(
        config: &StrategyConfig,
        (number, id): (u8, ActorId),
        (venue, wires): (usize, &VenueWires),
        instruments: usize,
        builder: &mut SystemBuilder,
    ) -> Self {
        let (name, at) = (&config.name, &wires.config.name);
        let VenueActors { book, orders, .. } = wires.actors;
        let touch = format!("book-{at}->strategy-{name}");
        let prints = format!("trades-{at}->strategy-{name}");
        let reports = format!("orders-{at}->strategy-{name}");
        Self {
            tops: builder.latest(Cargo::Touch.sized(touch, vec![book], id, Some(instruments))),
            trades: builder.mailbox(Cargo::Trades.edge(prints, vec![book], id)),
            reports: builder.mailbox(Cargo::Reports.edge(reports, vec![orders], id)),
            config: config.clone(),
            number,
            id,
            venue,
            view: View::new(),
        }
    }
}

/// Market records of all books.
pub(super) fn market_records(
    books: Vec<ActorId>,
    journal: ActorId,
    builder: &mut SystemBuilder,
) -> Mailbox<Entry> {
    builder.mailbox(Cargo::MarketRecords.edge("books->journal".to_owned(), books, journal))
}
