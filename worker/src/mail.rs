//! Delivery of emails from the outbox to the mail server.
//!
//! A task leases due emails in batches, one task for each connection sends them one by one, another
//! renews their leases, and another tries to connect while the server is unavailable.
//! [`shared::mail`] documents the guarantees of the outbox.

mod circuit;
mod files;
pub(crate) mod hold;
mod lease_table;
mod metrics;
mod sender;
pub(crate) mod smtp;
mod waiting;

use std::path::PathBuf;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shared::Result;
use shared::accounts::workspaces;
use shared::mail::breaks::{self, Breaks, Probe};
use shared::mail::{self, Leased, Marks, Position, Ranges, SWEEP_EVERY, Turn, senders};
use shared::platform::config::{self, Database, Settings};
use shared::platform::db::{self, CLOCK, Pool};
use sqlx::PgConnection;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use uuid::Uuid;

use crate::context::{WorkerContext, application_name, jittered};
use crate::mail::smtp::{Refusal, SmtpConnection, Trust};
use crate::maintenance::{Rounds, until_next_sweep};
use crate::queue::claim::POLL_EVERY;
use crate::queue::leases::lock;

use circuit::Circuit;
use lease_table::LeaseTable;
use metrics::Counts;
use sender::End;
use waiting::Waiting;

/// How long an idle connection is kept.
const IDLE: Duration = Duration::from_secs(30);

/// The state of delivery that the parts of a worker process share.
pub(crate) struct Delivery {
    transport: Transport,
    settings: config::Mail,
    /// Database connections for sending, leasing and renewing, which no other part of the worker
    /// uses.
    pub pool: Pool,
    pub wake: Notify,
    pub circuit: Circuit,
    pub counts: Counts,
    waiting: Waiting,
    /// Where the next lease starts.
    marks: Mutex<Marks>,
    pub held: LeaseTable,
    /// The number of open connections to the server.
    connections: AtomicUsize,
    /// The last known number of messages in a row, over all workers, that the server did not
    /// answer.
    breaks: AtomicI32,
    /// The connection that showed that the server is available.
    spare: Mutex<Option<SmtpConnection>>,
}

enum Transport {
    /// The server in the settings.
    Server(Box<Trust>),
    /// Files in this directory.
    Files(PathBuf),
    /// Neither is set: emails stay queued.
    None,
}

impl Delivery {
    pub fn new(settings: &Settings, worker_id: Uuid) -> anyhow::Result<Self> {
        let mail = settings.mail.clone();
        let transport = if !mail.host.is_empty() {
            Transport::Server(Box::new(Trust::read(&mail)?))
        } else if mail.directory.as_os_str().is_empty() {
            Transport::None
        } else {
            Transport::Files(mail.directory.clone())
        };
        // In addition to one for each sender: one each for leasing and handing back, for renewing
        // and for sweeps.
        let max_connections = u32::try_from(mail.connections).unwrap_or(u32::MAX).saturating_add(3);
        let database = Database { max_connections, ..settings.database.clone() };
        Ok(Self {
            transport,
            pool: db::pool(&database, &application_name(worker_id, " mail"))?,
            wake: Notify::new(),
            circuit: Circuit::new(mail.connections),
            counts: Counts::default(),
            waiting: Waiting::new(mail.connections),
            marks: Mutex::default(),
            held: LeaseTable::default(),
            connections: AtomicUsize::new(0),
            breaks: AtomicI32::new(0),
            spare: Mutex::default(),
            settings: mail,
        })
    }

    /// The number of open connections to the server.
    pub fn connections(&self) -> usize {
        self.connections.load(Relaxed)
    }

    fn add_connection(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    fn remove_connection(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }

    /// Applies the count of all workers: after too many breaks, messages are sent one at a time.
    fn apply_breaks(&self, breaks: Breaks) {
        self.breaks.store(breaks.in_a_row, Relaxed);
        if breaks.are_too_many() && !self.circuit.is_open() {
            self.circuit.hold();
        }
    }

    /// Why emails wait, if they do.
    pub fn trouble(&self) -> Option<Refusal> {
        match self.transport {
            Transport::None => Some(Refusal { why: NO_TRANSPORT.into(), settings: false }),
            _ => self.circuit.trouble(),
        }
    }

    /// Runs an operation on the outbox, and records whether the database answered.
    async fn with<T>(
        &self,
        process: &WorkerContext,
        operation: impl AsyncFnOnce(&mut PgConnection) -> Result<T>,
    ) -> Result<T> {
        let result = match self.pool.acquire().await {
            Ok(mut connection) => operation(&mut connection).await,
            Err(error) => Err(error),
        };
        process.database.record(&result);
        result
    }

    /// Records emails that wait again at their old positions.
    fn returned(&self, emails: impl IntoIterator<Item = (Uuid, Position)>) {
        let mut marks = lock(&self.marks);
        for (workspace_id, position) in emails {
            marks.returned(workspace_id, position);
        }
    }

    /// Records leased emails.
    fn leased(&self, ranges: &Ranges, emails: &[Leased]) {
        if let Some(first) = emails.first() {
            let positions = emails.iter().map(|email| (email.workspace_id, email.position()));
            lock(&self.marks).claimed(ranges, first.leased_at(), positions);
        }
    }

    /// Lets an email wait whose sending window closed while this process held it. If that fails, its
    /// lease expires.
    async fn wait_for_window(&self, process: &WorkerContext, email: &Leased) {
        let waits = async |connection: &mut PgConnection| mail::wait_for_window(connection, email, db::now()).await;
        if let Err(error) = self.with(process, waits).await {
            tracing::debug!(%error, "cannot postpone an email whose sending window is closed");
        }
        self.held.release(&[email.lease()]);
    }

    /// Hands back what waits for a connection, and leases anew from the front: what is paused has changed.
    pub async fn start_over(&self, process: &WorkerContext) {
        self.hand_back(process, self.waiting.take_all()).await;
        lock(&self.marks).reset();
        self.wake.notify_one();
    }

    /// Hands emails back that were not attempted. If that fails, their leases expire.
    async fn hand_back(&self, process: &WorkerContext, emails: impl IntoIterator<Item = Leased>) {
        let emails: Vec<Leased> = emails.into_iter().collect();
        if emails.is_empty() {
            return;
        }
        let leases: Vec<_> = emails.iter().map(Leased::lease).collect();
        tracing::debug!(emails = leases.len(), "handing back leased emails");
        if let Err(error) = self.with(process, async |connection| mail::hand_back(connection, &leases).await).await {
            tracing::debug!(%error, "cannot hand back leased emails");
        }
        self.returned(emails.iter().map(|email| (email.workspace_id, email.position())));
        self.held.release(&leases);
    }
}

const NO_TRANSPORT: &str = "neither mail.host nor mail.directory is set";

/// Sends emails until the process stops.
pub(crate) async fn run(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    if matches!(delivery.transport, Transport::None) {
        tracing::warn!("email is waiting: {NO_TRANSPORT}");
        return;
    }
    let mut upkeep = JoinSet::new();
    upkeep.spawn(lease_table::keep(process.clone(), delivery.clone()));
    upkeep.spawn(dial(process.clone(), delivery.clone()));
    upkeep.spawn(sweep(process.clone(), delivery.clone()));
    let mut work = JoinSet::new();
    work.spawn(restart_after_panic(process.clone(), delivery.clone(), lease));
    for _ in 0..delivery.settings.connections {
        work.spawn(restart_after_panic(process.clone(), delivery.clone(), sender::run));
    }
    work.join_all().await;
    // Senders may have put emails back after the lease task handed back the others.
    delivery.hand_back(&process, delivery.waiting.take_all()).await;
}

/// Runs a task to its end, and restarts it after a panic. An email that it was sending becomes
/// `unknown` when its lease expires.
async fn restart_after_panic<F>(
    process: Arc<WorkerContext>,
    delivery: Arc<Delivery>,
    work: fn(Arc<WorkerContext>, Arc<Delivery>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(error) = AbortOnDropHandle::new(tokio::spawn(work(process.clone(), delivery.clone()))).await {
        tracing::error!(%error, "a delivery task panicked; restarting it");
    }
}

/// Leases due emails while they can be sent, and hands them back when they cannot.
async fn lease(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    loop {
        if delivery.circuit.is_open() {
            delivery.hand_back(&process, delivery.waiting.take_all()).await;
        }
        let room = tokio::select! {
            biased;
            () = process.stopping.cancelled() => break,
            room = async {
                delivery.circuit.closed().await;
                delivery.waiting.has_room().await
            } => room,
            () = reopens(&delivery.circuit) => continue,
        };
        let leased = lease_batch(&process, &delivery, room).await;
        let failed = process.services.outbox.note(&leased);
        let pause = leased.unwrap_or_else(|_| failed.map_or(Pause::None, Pause::For));
        let paused = async {
            match pause {
                Pause::None => (),
                Pause::For(wait) => tokio::time::sleep(wait).await,
                Pause::UntilNotified => tokio::select! {
                    () = delivery.wake.notified() => (),
                    () = tokio::time::sleep(jittered(POLL_EVERY)) => (),
                },
            }
        };
        tokio::select! {
            () = process.stopping.cancelled() => break,
            () = delivery.circuit.opened() => (),
            () = paused => (),
        }
    }
    delivery.hand_back(&process, delivery.waiting.take_all()).await;
}

async fn reopens(circuit: &Circuit) {
    circuit.closed().await;
    circuit.opened().await;
}

/// Leases a batch, and returns how long to wait before the next.
async fn lease_batch(process: &WorkerContext, delivery: &Delivery, room: usize) -> Result<Pause> {
    if matches!(delivery.transport, Transport::Server(_)) {
        let breaks = delivery.with(process, async |connection| breaks::get(connection).await).await?;
        delivery.apply_breaks(breaks);
        if breaks.are_too_many() {
            return Ok(Pause::None);
        }
    }
    let turn = lease_up_to(process, delivery, room).await?;
    let pause = match turn.wait {
        Some(wait) => Pause::For(wait),
        None if turn.emails.is_empty() && turn.put_off == 0 => Pause::UntilNotified,
        None => Pause::None,
    };
    delivery.waiting.push(turn.emails);
    Ok(pause)
}

/// Leases up to `room` emails whose windows are open, and replaces senders that are no longer allowed. Leases nothing
/// while email is on hold, is paused, or this worker is draining.
async fn lease_up_to(process: &WorkerContext, delivery: &Delivery, room: usize) -> Result<Turn> {
    let Some(claimant) = process.steering.claimant() else { return Ok(Turn::default()) };
    let on_hold = delivery.with(process, async |connection| process.check_hold(connection).await).await?;
    if on_hold.is_some() || !CLOCK.is_trusted() {
        return Ok(Turn::default());
    }
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    let ranges = lock(&delivery.marks).ranges();
    let settings = &delivery.settings;
    let lease = async |connection: &mut PgConnection| {
        mail::lease_in_turn(connection, limit, &ranges, settings, &claimant).await
    };
    let mut turn = delivery.with(process, lease).await?;
    delivery.leased(&ranges, &turn.emails);
    delivery.held.hold(turn.emails.iter().map(Leased::lease));
    let apply =
        async |connection: &mut PgConnection| senders::apply(connection, &mut turn.emails, &delivery.settings).await;
    if let Err(error) = delivery.with(process, apply).await {
        delivery.hand_back(process, turn.emails).await;
        return Err(error);
    }
    Ok(turn)
}

/// Leases the message of a probe, and records it.
async fn lease_probe(process: &WorkerContext, delivery: &Delivery) -> Option<Leased> {
    let mut emails = lease_up_to(process, delivery, 1).await.map(|turn| turn.emails).unwrap_or_default();
    let email = emails.pop()?;
    if let Err(error) = delivery.with(process, async |connection| breaks::begin_probe(connection, &email).await).await {
        tracing::debug!(%error, "cannot probe the mail server");
        delivery.hand_back(process, [email]).await;
        return None;
    }
    Some(email)
}

/// Keeps looking for emails that became visible before the marks of leases.
async fn sweep(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    let (mut pause, mut rounds) = (jittered(SWEEP_EVERY), Rounds::default());
    loop {
        tokio::time::sleep(pause).await;
        let (marks, began) = (lock(&delivery.marks).clone(), Instant::now());
        let swept = delivery.with(&process, async |connection| {
            let workspaces = rounds.next(&workspaces::ids(connection).await?, &marks);
            mail::sweep(connection, &workspaces).await
        });
        match swept.await {
            Ok(sweep) => {
                if lock(&delivery.marks).swept(&marks, &sweep) {
                    tracing::info!("found emails that became visible late");
                    delivery.wake.notify_one();
                }
            }
            Err(error) => tracing::debug!(%error, "cannot sweep the outbox"),
        }
        pause = until_next_sweep(began.elapsed());
    }
}

/// How long to wait before leasing again.
enum Pause {
    None,
    /// Until a notification, or for about a second.
    UntilNotified,
    /// Until the rate limit allows the next email, regardless of notifications.
    For(Duration),
}

/// While the server is unavailable, tries to connect with increasing pauses.
async fn dial(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    // The time spent waiting for a silent server counts as part of the pause.
    let mut last_took = Duration::ZERO;
    loop {
        delivery.circuit.opened().await;
        tokio::time::sleep(jittered(delivery.circuit.pause()).saturating_sub(last_took)).await;
        let began = Instant::now();
        match &delivery.transport {
            Transport::Server(trust) => reach(&process, &delivery, trust).await,
            Transport::Files(_) | Transport::None => delivery.circuit.close(),
        }
        last_took = began.elapsed();
    }
}

async fn reach(process: &Arc<WorkerContext>, delivery: &Arc<Delivery>, trust: &Trust) {
    match delivery.with(process, async |connection| breaks::get(connection).await).await {
        Ok(breaks) if breaks.are_too_many() => {
            delivery.circuit.hold();
            probe(process, delivery, trust).await;
            return;
        }
        Ok(breaks) => delivery.breaks.store(breaks.in_a_row, Relaxed),
        // No email can be sent without the database, but the server can still be checked.
        Err(error) => tracing::debug!(%error, "cannot read the state of the mail server"),
    }
    match SmtpConnection::dial_twice(&delivery.settings, trust).await {
        Ok(connection) => {
            let previous = lock(&delivery.spare).replace(connection);
            delivery.circuit.close();
            drop(previous);
        }
        Err(refusal) => delivery.circuit.open(refusal),
    }
}

/// Sends one message, if no other worker is probing. If the server answers, all workers send again.
async fn probe(process: &Arc<WorkerContext>, delivery: &Arc<Delivery>, trust: &Trust) {
    if !delivery.with(process, async |connection| breaks::take_turn(connection).await).await.unwrap_or(false) {
        return;
    }
    let end = sender::probe(process, delivery, trust).await;
    let recorded = delivery.with(process, async |connection| match end {
        Some(End::Answered) => breaks::clear(connection).await,
        Some(End::Broke) => breaks::end_probe(connection, Probe::Broke).await,
        None => breaks::end_probe(connection, Probe::Nothing).await,
    });
    if let Err(error) = recorded.await {
        tracing::debug!(%error, "cannot record the result of the probe");
    }
}
