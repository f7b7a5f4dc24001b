//! Followers and copiers on threads of their own, of which one runs at a time: each stops at every fail point until it is
//! told to go on, or to crash.
//!
//! Invariant: between two commands at most one commit reaches the target.

use std::cell::Cell;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::engine::backfill::{Copier, CopierOptions, Step};
use crate::engine::catch_up::Follower;
use crate::engine::{Driver, Stream};
use crate::error::MigrateError;
use crate::fail_point::FailPoints;

/// What a worker is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// Claim the stream if it has no claim, and apply a batch.
    Follow { piece: u32 },
    /// Copy a chunk.
    Copy(Sizes),
    /// Go on from a fail point.
    GoOn,
    /// Die there, or, between two tasks, close the connections.
    Crash,
    /// Die there, and be replaced by a process that has the connections already: those of another server take long to make.
    Abandon,
    /// Between two tasks: have no claim any more.
    Forget,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    pub(super) chunk: u32,
    pub(super) lease_seconds: u32,
}

/// What a worker came to.
#[derive(Debug)]
pub(super) enum Event {
    At(&'static str),
    Followed(Result<(), MigrateError>),
    Copied(Result<Step, MigrateError>),
    Idle,
}

pub(super) struct Worker {
    orders: Sender<Order>,
    events: Receiver<Event>,
    pub(super) busy: bool,
}

impl Worker {
    pub(super) fn start<D: Driver + Clone + 'static>(
        driver: &D,
        stream: &Arc<Stream>,
        closes_once_in: u64,
    ) -> Self {
        let ((orders, given), (told, events)) = (channel(), channel());
        let (driver, stream) = (driver.clone(), Arc::clone(stream));
        std::thread::spawn(move || work(&driver, &stream, closes_once_in, given, told));
        Self { orders, events, busy: false }
    }

    /// Lets it run to its next fail point, or to the end of its task.
    pub(super) fn order(&mut self, order: Order) -> Event {
        self.orders.send(order).unwrap();
        let event = self.events.recv().unwrap();
        self.busy = matches!(event, Event::At(_));
        event
    }
}

fn work<D: Driver>(
    driver: &D,
    stream: &Stream,
    closes_once_in: u64,
    orders: Receiver<Order>,
    events: Sender<Event>,
) {
    let orders = Arc::new(Mutex::new((orders, false)));
    // The next order, and whether the connections survive it.
    let next = |orders: &Mutex<(Receiver<Order>, bool)>| {
        let mut orders = orders.lock().unwrap();
        let order = orders.0.recv();
        orders.1 = matches!(order, Ok(Order::Abandon));
        order
    };
    let points = {
        let (orders, events) = (Arc::clone(&orders), events.clone());
        FailPoints::decided(move |point| {
            events.send(Event::At(point)).ok();
            match next(&orders) {
                Ok(Order::GoOn) => Ok(()),
                _ => Err(MigrateError::Crashed(point)),
            }
        })
    };
    let failures = Cell::new(0_u64);
    let stays = |error: Option<&MigrateError>| match error {
        Some(MigrateError::Crashed(_)) => orders.lock().unwrap().1,
        Some(MigrateError::Unreachable { .. }) => {
            failures.set(failures.get() + 1);
            !failures.get().is_multiple_of(closes_once_in)
        }
        _ => true,
    };
    let (mut follower, mut copier) = (None, None);
    while let Ok(order) = next(&orders) {
        let event = match order {
            Order::Follow { piece } => {
                let done = follow(driver, stream, piece, &points, &mut follower);
                follower = follower.filter(|_| stays(done.as_ref().err()));
                follower = follower.map(|(size, follower)| (if done.is_ok() { size } else { 0 }, follower));
                Event::Followed(done)
            }
            Order::Copy(sizes) => {
                let done = copy(driver, stream, sizes, &points, &mut copier);
                copier = copier.filter(|_| stays(done.as_ref().err()));
                Event::Copied(done)
            }
            Order::GoOn | Order::Crash => {
                (follower, copier) = (None, None);
                Event::Idle
            }
            Order::Forget | Order::Abandon => {
                follower = follower.map(|(_, follower)| (0, follower));
                Event::Idle
            }
        };
        events.send(event).ok();
    }
}

/// With the size of its pieces, 0 if it has to claim the stream first.
type Following<'a, D> = Option<(u32, Follower<'a, D>)>;

fn follow<'a, D: Driver>(
    driver: &D,
    stream: &'a Stream,
    piece: u32,
    points: &'a FailPoints,
    follower: &mut Following<'a, D>,
) -> Result<(), MigrateError> {
    let (size, follower) = match follower {
        Some(known) => known,
        None => follower.insert((piece, Follower::claim(driver, stream, piece, points)?)),
    };
    if *size != piece {
        follower.claim_again(piece)?;
        *size = piece;
    }
    follower.batch().map(drop)
}

fn copy<'a, D: Driver>(
    driver: &'a D,
    stream: &'a Stream,
    sizes: Sizes,
    points: &'a FailPoints,
    copier: &mut Option<Copier<'a, D>>,
) -> Result<Step, MigrateError> {
    let options = CopierOptions { chunk: sizes.chunk, lease_seconds: sizes.lease_seconds };
    let copier = match copier {
        Some(known) => known,
        None => copier.insert(Copier::open(driver, stream, options, points)?),
    };
    copier.set_options(options);
    copier.step()
}
