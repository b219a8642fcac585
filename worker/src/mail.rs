//! Delivery: mails go from the outbox to the mail server.
//!
//! One task leases due mails, a batch at a time; each connection has a task that takes them one by
//! one; another renews the leases of what is held here; and one dials while the server is away. What
//! the outbox promises is in [`shared::mail`].

mod circuit;
mod files;
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

use crate::context::{WorkerContext, jittered};
use crate::mail::smtp::{Refusal, SmtpConnection, Trust};
use crate::maintenance::{Rounds, until_next_sweep};
use crate::queue::claim::POLL_EVERY;
use crate::queue::leases::lock;

use circuit::Circuit;
use lease_table::LeaseTable;
use metrics::Counts;
use sender::End;
use waiting::Waiting;

/// How long a connection that has no mails is kept.
const IDLE: Duration = Duration::from_secs(30);

/// Everything about mails that the parts of a worker process share.
pub(crate) struct Delivery {
    way: Way,
    settings: config::Mail,
    /// Connections to the database of those who send, lease and renew; nothing else waits for them.
    pool: Pool,
    pub wake: Notify,
    pub circuit: Circuit,
    pub counts: Counts,
    waiting: Waiting,
    /// Where the next lease starts to look.
    marks: Mutex<Marks>,
    pub held: LeaseTable,
    lines: AtomicUsize,
    /// Messages in a row, over all workers, that got no answer, as far as is known here.
    breaks: AtomicI32,
    /// A connection that was made to see whether the server is there.
    spare: Mutex<Option<SmtpConnection>>,
}

/// How mails leave.
enum Way {
    /// To the server of the settings.
    Server(Box<Trust>),
    /// Into a directory.
    Files(PathBuf),
    /// They do not.
    None,
}

impl Delivery {
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let mail = settings.mail.clone();
        let way = if !mail.host.is_empty() {
            Way::Server(Box::new(Trust::read(&mail)?))
        } else if mail.directory.as_os_str().is_empty() {
            Way::None
        } else {
            Way::Files(mail.directory.clone())
        };
        // Beside the connections' own: one each for leasing and handing back, for renewing and for sweeps.
        let max_connections = u32::try_from(mail.connections).unwrap_or(u32::MAX).saturating_add(3);
        let database = Database { max_connections, ..settings.database.clone() };
        Ok(Self {
            way,
            pool: db::pool(&database, "crm-worker mail")?,
            wake: Notify::new(),
            circuit: Circuit::new(mail.connections),
            counts: Counts::default(),
            waiting: Waiting::new(mail.connections),
            marks: Mutex::default(),
            held: LeaseTable::default(),
            lines: AtomicUsize::new(0),
            breaks: AtomicI32::new(0),
            spare: Mutex::default(),
            settings: mail,
        })
    }

    /// Connections to the server.
    pub fn lines(&self) -> usize {
        self.lines.load(Relaxed)
    }

    fn add_line(&self) {
        self.lines.fetch_add(1, Relaxed);
    }

    fn remove_line(&self) {
        self.lines.fetch_sub(1, Relaxed);
    }

    /// Notes what all workers know of the server; too many breaks stop all but one message at a time.
    fn heed(&self, breaks: Breaks) {
        self.breaks.store(breaks.in_a_row, Relaxed);
        if breaks.are_too_many() && !self.circuit.is_open() {
            self.circuit.hold();
        }
    }

    /// Why mails wait, if they do.
    pub fn trouble(&self) -> Option<Refusal> {
        match self.way {
            Way::None => Some(Refusal {
                why: "there is neither a mail server nor a directory in the settings".into(),
                settings: false,
            }),
            _ => self.circuit.trouble(),
        }
    }

    /// Runs one operation on the outbox, and notes whether the database answered.
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

    /// Notes emails that wait again at their old places.
    fn returned(&self, emails: impl IntoIterator<Item = (Uuid, Position)>) {
        let mut marks = lock(&self.marks);
        for (workspace_id, position) in emails {
            marks.returned(workspace_id, position);
        }
    }

    /// Notes what was leased.
    fn leased(&self, ranges: &Ranges, mails: &[Leased]) {
        if let Some(first) = mails.first() {
            let positions = mails.iter().map(|mail| (mail.workspace_id, mail.position()));
            lock(&self.marks).claimed(ranges, first.leased_at(), positions);
        }
    }

    /// Gives mails back about which nothing was said. Should that fail, their leases run out.
    async fn hand_back(&self, process: &WorkerContext, mails: impl IntoIterator<Item = Leased>) {
        let mails: Vec<Leased> = mails.into_iter().collect();
        if mails.is_empty() {
            return;
        }
        let leases: Vec<_> = mails.iter().map(Leased::lease).collect();
        tracing::debug!(mails = leases.len(), "leased mails are handed back");
        if let Err(error) = self.with(process, async |connection| mail::hand_back(connection, &leases).await).await {
            tracing::debug!(%error, "leased mails cannot be handed back");
        }
        self.returned(mails.iter().map(|mail| (mail.workspace_id, mail.position())));
        self.held.release(&leases);
    }
}

/// Sends mails until the process stops.
pub(crate) async fn run(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    if matches!(delivery.way, Way::None) {
        tracing::warn!("mail waits: there is neither a mail server nor a directory in the settings");
        return;
    }
    let mut upkeep = JoinSet::new();
    upkeep.spawn(lease_table::keep(process.clone(), delivery.clone()));
    upkeep.spawn(dial(process.clone(), delivery.clone()));
    upkeep.spawn(sweep(process.clone(), delivery.clone()));
    let mut work = JoinSet::new();
    work.spawn(again_after_a_panic(process.clone(), delivery.clone(), lease));
    for _ in 0..delivery.settings.connections {
        work.spawn(again_after_a_panic(process.clone(), delivery.clone(), sender::run));
    }
    work.join_all().await;
    // The last ones may have come after the others were handed back.
    delivery.hand_back(&process, delivery.waiting.take_all()).await;
}

/// Does work until it ends, and begins it anew should a defect end it. A mail that it had becomes
/// unknown when its lease runs out.
async fn again_after_a_panic<F>(
    process: Arc<WorkerContext>,
    delivery: Arc<Delivery>,
    work: fn(Arc<WorkerContext>, Arc<Delivery>) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    while let Err(error) = AbortOnDropHandle::new(tokio::spawn(work(process.clone(), delivery.clone()))).await {
        tracing::error!(%error, "a task that sends mails has ended");
    }
}

/// Leases due mails for as long as they can be sent, and hands them back when they cannot.
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
            () = opens_again(&delivery.circuit) => continue,
        };
        let leased = lease_batch(&process, &delivery, room).await;
        let failed = process.services.outbox.note(&leased);
        let pause = leased.unwrap_or_else(|_| failed.map_or(Pause::None, Pause::For));
        let rung = async {
            match pause {
                Pause::None => (),
                Pause::For(wait) => tokio::time::sleep(wait).await,
                Pause::UntilRung => tokio::select! {
                    () = delivery.wake.notified() => (),
                    () = tokio::time::sleep(jittered(POLL_EVERY)) => (),
                },
            }
        };
        tokio::select! {
            () = process.stopping.cancelled() => break,
            () = delivery.circuit.opened() => (),
            () = rung => (),
        }
    }
    delivery.hand_back(&process, delivery.waiting.take_all()).await;
}

async fn opens_again(circuit: &Circuit) {
    circuit.closed().await;
    circuit.opened().await;
}

/// Leases a batch; returns how long to wait for the next look, unless somebody notifies.
async fn lease_batch(process: &WorkerContext, delivery: &Delivery, room: usize) -> Result<Pause> {
    if matches!(delivery.way, Way::Server(_)) {
        let breaks = delivery.with(process, async |connection| breaks::get(connection).await).await?;
        delivery.heed(breaks);
        if breaks.are_too_many() {
            return Ok(Pause::None);
        }
    }
    let turn = lease_up_to(process, delivery, room).await?;
    let pause = match turn.wait {
        Some(wait) => Pause::For(wait),
        None if turn.mails.is_empty() && turn.put_off == 0 => Pause::UntilRung,
        None => Pause::None,
    };
    delivery.waiting.push(turn.mails);
    Ok(pause)
}

/// Leases up to so many emails, whose senders are those that are allowed now.
async fn lease_up_to(process: &WorkerContext, delivery: &Delivery, room: usize) -> Result<Turn> {
    if !CLOCK.is_trusted() {
        return Ok(Turn::default());
    }
    let limit = i64::try_from(room).unwrap_or(i64::MAX);
    let ranges = lock(&delivery.marks).ranges();
    let mut turn = if mail::is_limited(&delivery.settings) {
        let settings = &delivery.settings;
        delivery
            .with(process, async |connection| mail::lease_in_turn(connection, limit, &ranges, settings).await)
            .await?
    } else {
        let mails = delivery.with(process, async |connection| mail::lease(connection, limit, &ranges).await).await?;
        Turn { mails, ..Turn::default() }
    };
    delivery.leased(&ranges, &turn.mails);
    delivery.held.hold(turn.mails.iter().map(Leased::lease));
    let apply =
        async |connection: &mut PgConnection| senders::apply(connection, &mut turn.mails, &delivery.settings).await;
    if let Err(error) = delivery.with(process, apply).await {
        delivery.hand_back(process, turn.mails).await;
        return Err(error);
    }
    Ok(turn)
}

/// Leases the one message that is tried, and notes that it is.
async fn lease_probe(process: &WorkerContext, delivery: &Delivery) -> Option<Leased> {
    let mut mails = lease_up_to(process, delivery, 1).await.map(|turn| turn.mails).unwrap_or_default();
    let mail = mails.pop()?;
    if let Err(error) = delivery.with(process, async |connection| breaks::begin_probe(connection, &mail).await).await {
        tracing::debug!(%error, "no message can be tried");
        delivery.hand_back(process, [mail]).await;
        return None;
    }
    Some(mail)
}

/// Looks for emails that became visible before the marks of leases.
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
            Err(error) => tracing::debug!(%error, "emails before the marks cannot be looked for"),
        }
        pause = until_next_sweep(began.elapsed());
    }
}

/// When to look for due mails again.
enum Pause {
    /// At once.
    None,
    /// After a notification, or in a second.
    UntilRung,
    /// When the limit lets the next one leave, whatever is notified.
    For(Duration),
}

/// While the server is unavailable, tries to reach it, less and less often.
async fn dial(process: Arc<WorkerContext>, delivery: Arc<Delivery>) {
    // The wait for a server that says nothing is a pause already.
    let mut last_took = Duration::ZERO;
    loop {
        delivery.circuit.opened().await;
        tokio::time::sleep(jittered(delivery.circuit.pause()).saturating_sub(last_took)).await;
        let began = Instant::now();
        match &delivery.way {
            Way::Server(trust) => reach(&process, &delivery, trust).await,
            Way::Files(_) | Way::None => delivery.circuit.close(),
        }
        last_took = began.elapsed();
    }
}

async fn reach(process: &Arc<WorkerContext>, delivery: &Arc<Delivery>, trust: &Trust) {
    match delivery.with(process, async |connection| breaks::get(connection).await).await {
        Ok(breaks) if breaks.are_too_many() => {
            delivery.circuit.hold();
            try_one(process, delivery, trust).await;
            return;
        }
        Ok(breaks) => delivery.breaks.store(breaks.in_a_row, Relaxed),
        // Without the database no mail leaves; that the server is there is known all the same.
        Err(error) => tracing::debug!(%error, "what others know of the mail server cannot be read"),
    }
    match SmtpConnection::dial_twice(&delivery.settings, trust).await {
        Ok(line) => {
            let former = lock(&delivery.spare).replace(line);
            delivery.circuit.close();
            drop(former);
        }
        Err(refusal) => delivery.circuit.open(refusal),
    }
}

/// Tries one message, if no other worker does. One answer opens the way for all.
async fn try_one(process: &Arc<WorkerContext>, delivery: &Arc<Delivery>, trust: &Trust) {
    if !delivery.with(process, async |connection| breaks::take_turn(connection).await).await.unwrap_or(false) {
        return;
    }
    let end = sender::probe(process, delivery, trust).await;
    let noted = delivery.with(process, async |connection| match end {
        Some(End::Answered) => breaks::clear(connection).await,
        Some(End::Broke) => breaks::end_probe(connection, Probe::Broke).await,
        None => breaks::end_probe(connection, Probe::Nothing).await,
    });
    if let Err(error) = noted.await {
        tracing::debug!(%error, "what became of the message that was tried cannot be written");
    }
}
