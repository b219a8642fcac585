//! The requests of API keys that this process holds.
//!
//! The requests that a key has left are a row in the database, and each process leases some of them in advance:
//! as many as it expects to need soon. So a request costs no statement, and all processes together never allow
//! more than the limit. A process that holds none may allow a few in advance ([`credit`]), which its next lease
//! repays; then requests wait for the lease, a few milliseconds. While the database is unavailable, the process
//! applies the limit on its own.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shared::accounts::rate_limits::{Ask, Lease, Quota};
use tokio::sync::{Notify, watch};
use tokio::time::timeout_at;
use uuid::Uuid;

/// How long requests wait for a lease. Later, the process applies the limit on its own.
const PATIENCE: Duration = Duration::from_millis(200);
/// How often leases are adapted to demand.
pub(super) const TICK: Duration = Duration::from_millis(100);
/// A lease lasts for this long at the present demand.
const AHEAD: f64 = 0.3;
/// How long a key without requests left is refused before the database is asked again.
const REFUSE: Duration = Duration::from_millis(50);
/// How long a small debt may be outstanding.
const SETTLE: Duration = Duration::from_secs(1);
/// How much of the burst a process allows in advance, so that the sum over several processes stays below 10 %.
const CREDIT: f64 = 0.02;
/// The state of a key is dropped after this time without requests. All of them are replenished by then.
const IDLE: Duration = Duration::from_secs(60);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It was allowed, and so many are left.
    Request {
        /// As far as this process knows.
        left: u32,
    },
    /// None is left for some seconds.
    Nothing {
        /// At least 1.
        seconds: u64,
    },
}

/// The requests of all keys that this process holds.
#[derive(Debug)]
pub(super) struct Leases {
    keys: Mutex<HashMap<Uuid, Held>>,
    /// Counts the answers of the database, for those who wait for one.
    answers: watch::Sender<u64>,
    /// Wakes the keeper.
    pub(super) wanted: Notify,
}

impl Default for Leases {
    fn default() -> Self {
        Self { keys: Mutex::default(), answers: watch::Sender::new(0), wanted: Notify::new() }
    }
}

/// The requests of a key.
#[derive(Debug)]
struct Held {
    quota: Quota,
    /// Leased and not yet used; negative for a debt.
    held: i64,
    /// What was left in the database, and when.
    left: (f64, Instant),
    /// Until when nothing is left.
    empty_until: Option<Instant>,
    /// How many requests wait for a lease.
    waiting: i64,
    /// Requests since the last tick, and the requests per second before.
    arrived: u32,
    demand: f64,
    used_at: Instant,
    settled_at: Instant,
    /// What the process allows on its own while the database is unavailable, and when that was computed.
    alone: Option<(f64, Instant)>,
}

impl Leases {
    /// Takes one of a key's requests.
    pub async fn take(&self, key_id: Uuid, quota: Quota) -> Taken {
        if let Some(taken) = self.look(key_id, quota, true, Instant::now()) {
            return taken;
        }
        let mut answers = self.answers.subscribe();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let _waiting = Waiting::new(self, key_id);
        loop {
            if let Some(taken) = self.look(key_id, quota, false, Instant::now()) {
                return taken;
            }
            self.wanted.notify_one();
            if timeout_at(deadline, answers.changed()).await.is_err() {
                return self.take_alone(key_id, quota, Instant::now());
            }
        }
    }

    /// Takes a request if that is decided without the database.
    fn look(&self, key_id: Uuid, quota: Quota, is_new: bool, now: Instant) -> Option<Taken> {
        let mut keys = self.lock();
        let held = keys.entry(key_id).or_insert_with(|| Held::new(quota, now));
        held.quota = quota;
        if is_new {
            held.arrived += 1;
            held.used_at = now;
        }
        let taken = held.take(now);
        if taken.is_some() && held.is_low(now) {
            self.wanted.notify_one();
        }
        taken
    }

    fn take_alone(&self, key_id: Uuid, quota: Quota, now: Instant) -> Taken {
        let mut keys = self.lock();
        let held = keys.entry(key_id).or_insert_with(|| Held::new(quota, now));
        held.be_alone(now);
        held.take_alone(now)
    }

    /// Adapts the expected demand to what arrived since the last tick, and forgets idle keys.
    pub fn tick(&self, elapsed: Duration, now: Instant) {
        let mut keys = self.lock();
        for held in keys.values_mut() {
            let rate = f64::from(std::mem::take(&mut held.arrived)) / elapsed.as_secs_f64().max(0.001);
            held.demand = (held.demand + rate) / 2.0;
        }
        keys.retain(|_, held| held.held != 0 || held.waiting > 0 || now - held.used_at < IDLE);
    }

    /// What the process asks the database for now.
    pub fn asks(&self, now: Instant) -> Vec<Ask> {
        let keys = self.lock();
        let asks = keys.iter().filter_map(|(key_id, held)| {
            let requests = held.ask(now)?;
            Some(Ask { key_id: *key_id, quota: held.quota, requests })
        });
        asks.collect()
    }

    /// Gives everything back, at the end of the process.
    pub fn surrender(&self) -> Vec<Ask> {
        let keys = self.lock();
        let held = keys.iter().filter(|(_, held)| held.held != 0);
        held.map(|(key_id, held)| Ask { key_id: *key_id, quota: held.quota, requests: -held.held }).collect()
    }

    /// Adds what the database answered to these asks.
    pub fn receive(&self, asks: &[Ask], leases: &[Lease], now: Instant) {
        {
            let mut keys = self.lock();
            let asked: HashMap<Uuid, i64> = asks.iter().map(|ask| (ask.key_id, ask.requests)).collect();
            for lease in leases {
                if let (Some(held), Some(asked)) = (keys.get_mut(&lease.key_id), asked.get(&lease.key_id)) {
                    held.receive(*asked, lease, now);
                }
            }
            for held in keys.values_mut() {
                held.alone = None;
            }
        }
        self.answers.send_modify(|count| *count += 1);
    }

    /// Applies the limits in this process alone until the database answers again.
    pub fn go_alone(&self) {
        let now = Instant::now();
        self.lock().values_mut().for_each(|held| held.be_alone(now));
        self.answers.send_modify(|count| *count += 1);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Uuid, Held>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that waits for a lease.
struct Waiting<'a> {
    leases: &'a Leases,
    key_id: Uuid,
}

impl<'a> Waiting<'a> {
    fn new(leases: &'a Leases, key_id: Uuid) -> Self {
        let waiting = Self { leases, key_id };
        waiting.add(1);
        waiting
    }

    fn add(&self, number: i64) {
        if let Some(held) = self.leases.lock().get_mut(&self.key_id) {
            held.waiting += number;
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.add(-1);
    }
}

/// The requests that a process allows in advance.
fn credit(quota: Quota) -> i64 {
    (f64::from(quota.burst) * CREDIT) as i64
}

impl Held {
    fn new(quota: Quota, now: Instant) -> Self {
        Self {
            quota,
            held: 0,
            left: (f64::from(quota.burst), now),
            empty_until: None,
            waiting: 0,
            arrived: 0,
            demand: 0.0,
            used_at: now,
            settled_at: now,
            alone: None,
        }
    }

    /// Takes a request; `None` if the database must be asked first.
    fn take(&mut self, now: Instant) -> Option<Taken> {
        if self.alone.is_some() {
            return Some(self.take_alone(now));
        }
        let is_empty = self.empty_until.is_some_and(|until| now < until);
        if self.held > 0 || (!is_empty && self.held > -credit(self.quota)) {
            self.held -= 1;
            return Some(Taken::Request { left: self.known(now) });
        }
        is_empty.then(|| {
            let missing = (1 - self.held) as f64 - self.replenished(now);
            Taken::Nothing { seconds: self.seconds(missing) }
        })
    }

    fn take_alone(&mut self, now: Instant) -> Taken {
        let (tokens, at) = self.alone.unwrap_or((0.0, now));
        let tokens = self.later(tokens, at, now);
        if tokens >= 1.0 {
            self.alone = Some((tokens - 1.0, now));
            Taken::Request { left: (tokens - 1.0) as u32 }
        } else {
            self.alone = Some((tokens, now));
            Taken::Nothing { seconds: self.seconds(1.0 - tokens) }
        }
    }

    /// Begins to apply the limit without the other processes, with what they had left together.
    fn be_alone(&mut self, now: Instant) {
        if self.alone.is_none() {
            let tokens = (self.replenished(now) + self.held as f64).min(f64::from(self.quota.burst));
            self.alone = Some((tokens, now));
            self.held = 0;
            self.empty_until = None;
        }
    }

    /// What is left for all processes, as far as it is known.
    fn known(&self, now: Instant) -> u32 {
        let known = self.held as f64 + self.replenished(now);
        known.clamp(0.0, f64::from(self.quota.burst)) as u32
    }

    /// What is left in the database by now, unless other processes have taken it.
    fn replenished(&self, now: Instant) -> f64 {
        let (left, at) = self.left;
        self.later(left, at, now)
    }

    fn later(&self, tokens: f64, at: Instant, now: Instant) -> f64 {
        let replenished = (now - at).as_secs_f64() * self.quota.per_second();
        (tokens + replenished).min(f64::from(self.quota.burst))
    }

    /// The seconds until so many requests are replenished.
    fn seconds(&self, missing: f64) -> u64 {
        (missing / self.quota.per_second()).ceil().max(1.0) as u64
    }

    /// Whether the lease will not last until the next tick.
    fn is_low(&self, now: Instant) -> bool {
        // Fewer are settled once in a while.
        let soon = self.demand * TICK.as_secs_f64();
        let will_end = soon >= 1.0 && (self.held as f64) < soon;
        let owes_much = self.held < -credit(self.quota) / 2;
        self.alone.is_none() && self.empty_until.is_none_or(|until| until <= now) && (will_end || owes_much)
    }

    /// What is needed soon.
    fn target(&self) -> i64 {
        let expected = (self.demand * AHEAD) as i64;
        (expected + self.waiting).min(i64::from(self.quota.burst))
    }

    /// What to ask the database for; negative to give some back.
    fn ask(&self, now: Instant) -> Option<i64> {
        let (target, held) = (self.target(), self.held);
        if self.alone.is_some() {
            // Whether the database answers again is found out by asking.
            return Some(target.max(1));
        }
        if held > 2 * target {
            return Some(target - held);
        }
        let is_empty = self.empty_until.is_some_and(|until| now < until);
        let owes = held < 0 && now - self.settled_at >= SETTLE;
        let wants = self.waiting > 0 || self.is_low(now) || owes;
        (wants && !is_empty && target > held).then_some(target - held)
    }

    fn receive(&mut self, asked: i64, lease: &Lease, now: Instant) {
        // A process alone has used up what it held.
        if self.alone.is_some() && asked < 0 {
            return;
        }
        self.held += lease.granted as i64;
        self.left = (lease.left, now);
        self.settled_at = now;
        let lacks = lease.granted < asked as f64 && self.held <= 0;
        self.empty_until = lacks.then(|| {
            let first = Duration::from_secs_f64((1.0 - lease.left).max(0.0) / self.quota.per_second());
            now + first.max(REFUSE)
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: Uuid = Uuid::nil();
    const LARGE: Quota = Quota { per_minute: 6_000, burst: 1_000 };
    const MILLISECOND: Duration = Duration::from_millis(1);

    /// The row of the database.
    struct Row {
        tokens: f64,
        at: Instant,
    }

    impl Row {
        fn full(at: Instant) -> Self {
            Self { tokens: f64::from(LARGE.burst), at }
        }

        /// Answers a process as the statement does.
        fn answer(&mut self, leases: &Leases, now: Instant) {
            let most = f64::from(LARGE.burst);
            let asks = leases.asks(now);
            self.tokens = (self.tokens + (now - self.at).as_secs_f64() * LARGE.per_second()).min(most);
            self.at = now;
            let mut answer = |ask: &Ask| {
                let granted = (ask.requests as f64).min(self.tokens).floor();
                self.tokens = (self.tokens - granted).min(most);
                Lease { key_id: ask.key_id, granted, left: self.tokens }
            };
            let answers: Vec<Lease> = asks.iter().map(&mut answer).collect();
            leases.receive(&asks, &answers, now);
        }
    }

    /// Whether a request is allowed, with the answer of the database if it is needed.
    fn is_allowed(leases: &Leases, row: &mut Row, now: Instant) -> bool {
        let mut taken = leases.look(KEY, LARGE, true, now);
        if taken.is_none() {
            let _waiting = Waiting::new(leases, KEY);
            row.answer(leases, now);
            taken = leases.look(KEY, LARGE, false, now);
        }
        matches!(taken, Some(Taken::Request { .. }))
    }

    /// How many requests several processes allow, if each gets so many in a millisecond.
    fn allowed(processes: usize, requests: usize, seconds: u32) -> f64 {
        let processes: Vec<Leases> = (0..processes).map(|_| Leases::default()).collect();
        let mut now = Instant::now();
        let (mut row, mut allowed) = (Row::full(now), 0);
        for millisecond in 0..seconds * 1_000 {
            now += MILLISECOND;
            for leases in &processes {
                for _ in 0..requests {
                    allowed += u32::from(is_allowed(leases, &mut row, now));
                }
                if millisecond % 100 == 99 {
                    leases.tick(TICK, now);
                    row.answer(leases, now);
                }
            }
        }
        f64::from(allowed)
    }

    #[test]
    fn processes_allow_the_limit_together() {
        for (processes, requests) in [(1, 1), (2, 1), (2, 3), (3, 2), (4, 1), (4, 5)] {
            for seconds in [1, 3, 10] {
                let limit = f64::from(LARGE.burst) + LARGE.per_second() * f64::from(seconds);
                let sent = (processes * requests) as f64 * f64::from(seconds) * 1_000.0;
                let expected = limit.min(sent);
                let allowed = allowed(processes, requests, seconds);
                let error = (allowed - expected) / expected;
                assert!(error.abs() <= 0.1, "{processes} x {requests}: {allowed} in {seconds} s of {expected}");
            }
        }
    }

    #[test]
    fn what_is_not_used_is_given_back() {
        let mut now = Instant::now();
        let (leases, mut row) = (Leases::default(), Row::full(now));
        for _ in 0..300 {
            assert!(is_allowed(&leases, &mut row, now));
        }
        for _ in 0..50 {
            now += TICK;
            leases.tick(TICK, now);
            row.answer(&leases, now);
        }
        assert_eq!(leases.lock()[&KEY].held, 0);
        now += IDLE;
        leases.tick(TICK, now);
        assert!(leases.lock().is_empty() && leases.asks(now).is_empty());
    }

    #[tokio::test]
    async fn a_process_without_a_database_applies_the_limit_alone() {
        let leases = Leases::default();
        let mut allowed = 0;
        for _ in 0..2_000 {
            allowed += u32::from(matches!(leases.take(KEY, LARGE).await, Taken::Request { .. }));
        }
        assert!((950..=1_050).contains(&allowed), "{allowed}");
        let later = Instant::now() + Duration::from_secs(1);
        let taken = |_: &i32| matches!(leases.take_alone(KEY, LARGE, later), Taken::Request { .. });
        let allowed = (0..200).filter(taken).count();
        assert!((95..=105).contains(&allowed), "{allowed}");
    }
}
