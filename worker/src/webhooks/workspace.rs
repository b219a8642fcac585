//! The delivery of one workspace's webhooks, while this process holds its lease.
//!
//! One task decides what is sent. Requests run beside it, and so does one operation on the database at a time: recording
//! attempts, adding deliveries of new events, or loading what is due.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use shared::webhooks::{self, Attempt, Candidate, Due, FannedOut, Health, Hold, Recorded, Target, Targets};
use shared::{Error, Result};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Webhooks;
use super::lane::Lane;
use super::slots::{OF_WORKSPACE, share};
use crate::context::WorkerContext;

/// How long a workspace without work is kept, since more may follow soon.
const LINGER: Duration = Duration::from_millis(500);
/// How often the endpoints of a workspace are read again while it has work. Retries that became due are found then.
const REFRESH_EVERY: Duration = Duration::from_secs(1);
/// How often a task looks for a slot when there was none.
const NO_SLOT: Duration = Duration::from_millis(20);
/// How long to wait after an error of the database.
const AFTER_ERROR: Duration = Duration::from_millis(500);
/// A walk over what a job wrote goes on while fewer deliveries are loaded.
const WALK_BELOW: usize = 64;
/// The most attempts that one transaction records.
const RECORDED: usize = 500;

/// What the rest of the process tells the task.
#[derive(Default)]
pub(super) struct Signals {
    notify: Notify,
    is_due: AtomicBool,
    has_events: AtomicBool,
    /// Cancelled when the lease is lost.
    pub lost: CancellationToken,
}

impl Signals {
    pub fn send(&self, candidate: Candidate) {
        self.is_due.fetch_or(candidate.is_due, Relaxed);
        self.has_events.fetch_or(candidate.has_events, Relaxed);
        self.notify.notify_one();
    }
}

/// What an operation on the database returned.
enum Done {
    Recorded(Vec<Attempt>, Result<Recorded>),
    Refreshed(Result<Targets>),
    FannedOut(Result<FannedOut>),
    Walked(Result<FannedOut>),
    Loaded(Vec<(Uuid, i64)>, Result<Vec<Due>>),
}

pub(super) struct Workspace {
    process: Arc<WorkerContext>,
    hooks: Arc<Webhooks>,
    hold: Hold,
    signals: Arc<Signals>,
    lanes: HashMap<Uuid, Lane>,
    /// The lane after the last one that has sent.
    turn: usize,
    /// The deliveries that are loaded, in flight or not recorded.
    known: HashSet<Uuid>,
    sending: JoinSet<Attempt>,
    /// Attempts that are not recorded.
    ended: Vec<Attempt>,
    /// The operation on the database.
    operation: Option<BoxFuture<'static, Done>>,
    /// No operation begins before.
    wait_until: Option<Instant>,
    must_refresh: bool,
    /// When endpoints are read again, and with them what has become due.
    refresh_at: Instant,
    must_fan_out: bool,
    /// Whether there may be walks over what jobs wrote.
    must_walk: bool,
    lacks_slots: bool,
    /// Since when there is nothing to do.
    idle_since: Option<Instant>,
}

/// Why the task ends.
enum End {
    Idle,
    Lost,
}

impl Workspace {
    pub fn new(process: Arc<WorkerContext>, hooks: Arc<Webhooks>, hold: Hold, signals: Arc<Signals>) -> Self {
        Self {
            process,
            hooks,
            hold,
            signals,
            lanes: HashMap::new(),
            turn: 0,
            known: HashSet::new(),
            sending: JoinSet::new(),
            ended: Vec::new(),
            operation: None,
            wait_until: None,
            must_refresh: true,
            refresh_at: Instant::now() + REFRESH_EVERY,
            must_fan_out: true,
            must_walk: true,
            lacks_slots: false,
            idle_since: None,
        }
    }

    /// Delivers until nothing is due for a while, the process stops, or the lease is lost.
    pub async fn run(mut self) {
        let end = self.deliver().await;
        // Attempts that are in flight when the lease is lost are repeated by another worker anyway.
        self.sending.abort_all();
        if let End::Idle = end
            && let Err(error) = self.hooks.with(&self.process, async |it| webhooks::release(it, self.hold).await).await
        {
            tracing::debug!(%error, "cannot release the webhooks of a workspace; the lease expires");
        }
    }

    async fn deliver(&mut self) -> End {
        let (signals, stopping) = (self.signals.clone(), self.process.stopping.clone());
        loop {
            self.read_signals();
            self.send_what_may();
            self.begin_operation();
            if self.is_done() {
                return End::Idle;
            }
            let until = self.next_moment();
            tokio::select! {
                biased;
                () = signals.lost.cancelled() => return End::Lost,
                Some(attempt) = self.sending.join_next(), if !self.sending.is_empty() => self.attempted(attempt),
                done = operation(&mut self.operation) => {
                    self.operation = None;
                    if self.finish(done).is_err() {
                        return End::Lost;
                    }
                }
                () = signals.notify.notified() => (),
                () = stopping.cancelled(), if !self.is_stopping() => (),
                () = sleep_until(until) => (),
            }
        }
    }

    fn is_stopping(&self) -> bool {
        self.process.stopping.is_cancelled()
    }

    /// Whether nothing may be sent now: email is on hold, or an operator has paused the workspace or its webhooks.
    fn is_held(&self) -> bool {
        self.process.hold.present().is_some() || self.process.steering.holds_webhooks_of(self.hold.workspace_id)
    }

    fn read_signals(&mut self) {
        self.must_refresh |= self.signals.is_due.swap(false, Relaxed);
        self.must_fan_out |= self.signals.has_events.swap(false, Relaxed);
        if self.refresh_at <= Instant::now() && self.idle_since.is_none() {
            self.must_refresh = true;
        }
    }

    /// Sends what the limits allow, the endpoints in turn.
    fn send_what_may(&mut self) {
        self.lacks_slots = false;
        if self.is_stopping() || self.is_held() {
            return;
        }
        let now = Instant::now();
        let mut ids: Vec<Uuid> = self.lanes.iter().filter(|(_, lane)| lane.may_send(now)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        let mut skipped = 0;
        while skipped < ids.len() {
            self.turn = self.turn.wrapping_add(1);
            let id = ids[self.turn % ids.len()];
            skipped = if self.send_one(id, now) { 0 } else { skipped + 1 };
        }
    }

    fn send_one(&mut self, id: Uuid, now: Instant) -> bool {
        let in_flight = self.sending.len();
        let Some(lane) = self.lanes.get_mut(&id).filter(|lane| lane.may_send(now)) else { return false };
        if lane.in_flight >= share(in_flight, OF_WORKSPACE) {
            return false;
        }
        let Some(slot) = self.hooks.slots.take(lane.in_flight) else {
            self.lacks_slots = true;
            return false;
        };
        let Some(due) = lane.begin(now) else { return false };
        let (hooks, target) = (self.hooks.clone(), lane.target.clone());
        self.sending.spawn(async move {
            let attempt = hooks.attempt(&target, due).await;
            drop(slot);
            attempt
        });
        true
    }

    fn attempted(&mut self, attempt: std::result::Result<Attempt, tokio::task::JoinError>) {
        match attempt {
            Ok(attempt) => {
                if let Some(lane) = self.lanes.get_mut(&attempt.webhook_id) {
                    lane.end(&attempt);
                }
                self.ended.push(attempt);
            }
            // The delivery stays due, and is attempted again by whoever claims the workspace next.
            Err(error) => {
                tracing::error!(%error, "an attempt to deliver a webhook panicked");
                self.signals.lost.cancel();
            }
        }
    }

    /// Begins the next operation on the database, unless one is running.
    fn begin_operation(&mut self) {
        let now = Instant::now();
        if self.operation.is_some() || self.wait_until.is_some_and(|until| until > now) {
            return;
        }
        self.wait_until = None;
        self.operation = if !self.ended.is_empty() {
            Some(self.record())
        } else if self.is_stopping() {
            None
        } else if std::mem::take(&mut self.must_refresh) {
            Some(self.refresh())
        } else if std::mem::take(&mut self.must_fan_out) {
            Some(self.fan_out())
        } else {
            self.load().or_else(|| self.walk())
        };
    }

    fn record(&mut self) -> BoxFuture<'static, Done> {
        let rest = self.ended.split_off(self.ended.len().min(RECORDED));
        let attempts = std::mem::replace(&mut self.ended, rest);
        let health: Vec<Health> = self.lanes.values_mut().filter_map(Lane::take_health).collect();
        let (process, hooks, hold) = (self.process.clone(), self.hooks.clone(), self.hold);
        Box::pin(async move {
            let mail = &process.settings.mail;
            let record = async |connection: &mut sqlx::PgConnection| {
                webhooks::record(connection, hold, &attempts, &health, mail).await
            };
            let recorded = hooks.with(&process, record).await;
            Done::Recorded(attempts, recorded)
        })
    }

    fn refresh(&mut self) -> BoxFuture<'static, Done> {
        self.refresh_at = Instant::now() + REFRESH_EVERY;
        let (process, hooks, hold) = (self.process.clone(), self.hooks.clone(), self.hold);
        Box::pin(async move {
            let refresh = async |connection: &mut sqlx::PgConnection| {
                webhooks::acknowledge(connection, hold).await?;
                webhooks::targets(connection, hold.workspace_id, &hooks.sealer).await
            };
            Done::Refreshed(hooks.with(&process, refresh).await)
        })
    }

    fn fan_out(&self) -> BoxFuture<'static, Done> {
        let (process, hooks, hold) = (self.process.clone(), self.hooks.clone(), self.hold);
        Box::pin(
            async move { Done::FannedOut(hooks.with(&process, async |it| webhooks::fan_out(it, hold).await).await) },
        )
    }

    /// Loads what is due to the endpoints that have room; `None` if there is none.
    fn load(&self) -> Option<BoxFuture<'static, Done>> {
        let rooms = self.lanes.iter().map(|(id, lane)| (*id, i64::try_from(lane.room()).unwrap_or_default()));
        let rooms: Vec<(Uuid, i64)> = rooms.filter(|(_, room)| *room > 0).collect();
        if rooms.is_empty() {
            return None;
        }
        let known: Vec<Uuid> = self.known.iter().copied().collect();
        let (process, hooks, id) = (self.process.clone(), self.hooks.clone(), self.hold.workspace_id);
        Some(Box::pin(async move {
            let public_url = process.settings.own_url();
            let load = async |connection: &mut sqlx::PgConnection| {
                webhooks::load(connection, id, &rooms, &known, public_url).await
            };
            let loaded = hooks.with(&process, load).await;
            Done::Loaded(rooms, loaded)
        }))
    }

    /// Adds deliveries of what a job wrote, while little else is due.
    fn walk(&mut self) -> Option<BoxFuture<'static, Done>> {
        let has_room = self.known.len() < WALK_BELOW;
        if !has_room || !std::mem::take(&mut self.must_walk) {
            return None;
        }
        let (process, hooks, hold) = (self.process.clone(), self.hooks.clone(), self.hold);
        Some(Box::pin(
            async move { Done::Walked(hooks.with(&process, async |it| shared::crm::walk(it, hold).await).await) },
        ))
    }

    /// Continues with the result of an operation. An error means that the lease is lost.
    fn finish(&mut self, done: Done) -> Result<()> {
        let result = match done {
            Done::Recorded(attempts, Ok(recorded)) => {
                self.recorded(&attempts, recorded);
                Ok(())
            }
            Done::Recorded(attempts, Err(error)) => {
                self.ended.splice(0..0, attempts);
                Err(error)
            }
            Done::Refreshed(targets) => targets.map(|targets| self.refreshed(targets)).inspect_err(|_| {
                self.must_refresh = true;
            }),
            Done::FannedOut(fanned_out) => fanned_out.map(|fanned_out| self.fanned_out(fanned_out)).inspect_err(|_| {
                self.must_fan_out = true;
            }),
            Done::Walked(walked) => walked.map(|walked| self.walked(walked)).inspect_err(|_| self.must_walk = true),
            Done::Loaded(rooms, due) => due.map(|due| self.loaded(&rooms, due)),
        };
        match result {
            Ok(()) => Ok(()),
            Err(Error::Superseded) => Err(Error::Superseded),
            Err(error) => {
                if let Some(wait) = self.process.services.webhooks.note::<()>(&Err(error)) {
                    self.wait_until = Some(Instant::now() + wait.max(AFTER_ERROR));
                }
                Ok(())
            }
        }
    }

    fn recorded(&mut self, attempts: &[Attempt], recorded: Recorded) {
        self.process.services.webhooks.succeeded();
        self.hooks.counts.add(attempts);
        for attempt in attempts {
            self.known.remove(&attempt.id);
        }
        if recorded.has_released {
            self.lanes.values_mut().for_each(|lane| lane.may_have_more = true);
        }
        for id in &recorded.disabled {
            tracing::warn!(workspace = %self.hold.workspace_id, webhook = %id, "disabled a webhook that only failed");
            self.must_refresh = true;
        }
        if recorded.has_email {
            self.process.notifier.notify(shared::mail::QUEUE);
        }
    }

    fn refreshed(&mut self, Targets { targets, unreadable }: Targets) {
        for (id, error) in unreadable {
            tracing::error!(workspace = %self.hold.workspace_id, webhook = %id, %error, "cannot deliver to a webhook");
        }
        let mut present: HashMap<Uuid, Arc<Target>> =
            targets.into_iter().map(|target| (target.id, Arc::new(target))).collect();
        let known = &mut self.known;
        self.lanes.retain(|id, lane| match present.remove(id) {
            Some(target) => {
                lane.update(target);
                true
            }
            // Disabled or deleted. What is in flight is recorded all the same.
            None => {
                for id in lane.clear() {
                    known.remove(&id);
                }
                lane.may_have_more = false;
                lane.in_flight > 0
            }
        });
        self.lanes.extend(present.into_iter().map(|(id, target)| (id, Lane::new(target))));
    }

    fn walked(&mut self, FannedOut { deliveries, has_more, .. }: FannedOut) {
        self.must_walk |= has_more;
        if deliveries > 0 {
            self.lanes.values_mut().for_each(|lane| lane.may_have_more = true);
        }
    }

    fn fanned_out(&mut self, FannedOut { deliveries, has_callbacks, has_walks, has_more }: FannedOut) {
        self.must_fan_out |= has_more;
        self.must_refresh |= has_callbacks;
        self.must_walk |= has_walks;
        if deliveries > 0 {
            self.lanes.values_mut().for_each(|lane| lane.may_have_more = true);
        }
    }

    fn loaded(&mut self, rooms: &[(Uuid, i64)], due: Vec<Due>) {
        let mut counts = HashMap::<Uuid, i64>::new();
        for due in due {
            *counts.entry(due.webhook_id).or_default() += 1;
            if let Some(lane) = self.lanes.get_mut(&due.webhook_id) {
                self.known.insert(due.id);
                lane.push(due);
            }
        }
        for (id, room) in rooms {
            if let Some(lane) = self.lanes.get_mut(id) {
                lane.may_have_more = counts.get(id).is_some_and(|count| count == room);
            }
        }
    }

    /// Whether the task has ended its work: at shutdown when all attempts are recorded, else when nothing was due for a
    /// while.
    fn is_done(&mut self) -> bool {
        let is_busy = !self.sending.is_empty() || !self.ended.is_empty() || self.operation.is_some();
        if self.is_stopping() {
            return !is_busy;
        }
        let has_work =
            is_busy || self.must_refresh || self.must_fan_out || self.lanes.values().any(|it| !it.is_empty());
        // A hold or a pause stops everything, whatever is loaded.
        if has_work && (is_busy || !self.is_held()) {
            self.idle_since = None;
            return false;
        }
        self.idle_since.get_or_insert_with(Instant::now).elapsed() >= LINGER
    }

    /// When to look again, if nothing happens before.
    fn next_moment(&self) -> Option<Instant> {
        let now = Instant::now();
        let lanes = self.lanes.values().filter_map(|lane| lane.waits_until(now)).min();
        let refresh = self.idle_since.is_none().then_some(self.refresh_at);
        let slot = self.lacks_slots.then(|| now + NO_SLOT);
        let idle = self.idle_since.map(|since| since + LINGER);
        let hold = self.is_held().then(|| now + LINGER);
        [lanes, refresh, slot, idle, hold, self.wait_until].into_iter().flatten().min()
    }
}

async fn operation(operation: &mut Option<BoxFuture<'static, Done>>) -> Done {
    match operation {
        Some(operation) => operation.await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment.into()).await,
        None => std::future::pending().await,
    }
}
