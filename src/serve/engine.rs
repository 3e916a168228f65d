//! The thread that decodes. All contexts are its own; what is wanted reaches it as a [`Job`], and what comes of it goes back
//! event by event.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::model_cache::{ModelCache, ServerBatch, VoiceRequest};
use super::settings::EngineSettings;
use crate::decode::{
    AnswerOptions, Batch, BatchEvent, PassSchedule, Processor, TextId, TextRequest,
};
use crate::home::Home;
use crate::llama::{Model, Token, devices};
use crate::{Error, Result};

/// Tokens of prompts that are read between two tokens of the texts under way: a tenth of a second on a CPU.
pub const N_PROMPT: usize = 128;

/// How often an idle engine looks whether adapters have changed.
const IDLE: Duration = Duration::from_secs(5);

/// A text that is wanted.
#[derive(Debug)]
pub struct Job {
    /// Whose voice it is in.
    pub voice: VoiceRequest,
    /// Its tokens so far.
    pub prompt: Vec<Token>,
    /// How it goes on.
    pub options: AnswerOptions,
    /// How many candidates are explained beside each choice, if choices are explained.
    pub explained: Option<usize>,
    /// For whom what the models read is kept.
    pub owner: u64,
    /// Who is told. A text ends when nobody hears of it any more.
    pub reply: UnboundedSender<Result<BatchEvent>>,
}

/// Whoever has it can have texts decoded; the thread ends when nobody has it any more.
#[derive(Clone, Debug)]
pub struct Engine {
    jobs: Sender<Job>,
    gauges: Arc<Gauges>,
}

/// What the engine is at.
#[derive(Debug, Default)]
pub struct Gauges {
    /// Texts under way.
    pub running: AtomicUsize,
    /// Texts that wait.
    pub waiting: AtomicUsize,
    /// Models that are loaded.
    pub models: AtomicUsize,
    /// Bytes of their contexts and adapters.
    pub bytes: AtomicU64,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The file of the base cannot be read, or there is no thread to be had.
    pub fn start(home: &Home, model: &Arc<Model>, settings: &EngineSettings) -> Result<Self> {
        let (sender, receiver) = channel();
        let gauges = Arc::new(Gauges::default());
        // Passes of few texts run side by side; a GPU computes them one after the other.
        let processor = if devices().iter().any(|device| device.is_gpu) {
            Processor::Gpu
        } else {
            let n_threads = settings.context.n_threads;
            Processor::Cpu { n_threads }
        };
        let schedule = PassSchedule::fastest(processor);
        let worker = Worker {
            model_cache: ModelCache::new(home, model, settings)?,
            batch: Batch::new(Arc::clone(model), schedule, N_PROMPT),
            replies: HashMap::new(),
            waiting: VecDeque::new(),
            gauges: Arc::clone(&gauges),
        };
        std::thread::Builder::new()
            .name("decode".into())
            .spawn(move || worker.run(&receiver))
            .map_err(|error| Error::lack(format!("cannot start a thread: {error}")))?;
        Ok(Self {
            jobs: sender,
            gauges,
        })
    }

    /// Has a text decoded.
    ///
    /// # Errors
    ///
    /// The thread has gone.
    pub fn submit(&self, job: Job) -> Result<()> {
        let gone = || Error::bug("the decoder has stopped; start the server again");
        self.jobs.send(job).map_err(|_| gone())
    }

    /// What it is at.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }
}

struct Worker {
    model_cache: ModelCache,
    batch: ServerBatch,
    replies: HashMap<TextId, UnboundedSender<Result<BatchEvent>>>,
    /// Those for whose models there is no room yet.
    waiting: VecDeque<Job>,
    gauges: Arc<Gauges>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            if self.replies.is_empty() {
                self.model_cache.sweep(&mut self.batch);
                self.show();
                match jobs.recv_timeout(IDLE) {
                    Ok(job) => self.waiting.push_back(job),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.waiting.extend(jobs.try_iter());
            self.drop_unheard();
            self.begin();
            self.show();
            match self.batch.next() {
                Some(Ok((id, event))) => self.tell(id, event),
                Some(Err(_)) => self.interrupt(),
                None => {}
            }
        }
    }

    /// Ends the texts of those who have gone away.
    fn drop_unheard(&mut self) {
        self.waiting.retain(|job| !job.reply.is_closed());
        let gone = self.replies.extract_if(|_, reply| reply.is_closed());
        for (id, _) in gone {
            self.batch.cancel(id);
        }
    }

    /// Gives the batch the texts whose models are loaded or can be.
    fn begin(&mut self) {
        for job in std::mem::take(&mut self.waiting) {
            let policy = match self.model_cache.open(&job.voice, &mut self.batch) {
                Ok(Some(policy)) => policy,
                Ok(None) => {
                    self.waiting.push_back(job);
                    continue;
                }
                Err(error) => {
                    let _ = job.reply.send(Err(error));
                    continue;
                }
            };
            let request = TextRequest {
                prompt: job.prompt,
                policy,
                options: job.options,
                explained: job.explained,
                owner: Some(job.owner),
            };
            match self.batch.push(request) {
                Ok(id) => {
                    self.replies.insert(id, job.reply);
                }
                Err(error) => {
                    let _ = job.reply.send(Err(error));
                }
            }
        }
    }

    fn tell(&mut self, id: TextId, event: BatchEvent) {
        let has_ended = matches!(event, BatchEvent::Finished { .. } | BatchEvent::Failed(_));
        // Whether anybody hears it is seen before the next pass.
        if let Some(reply) = self.replies.get(&id) {
            let _ = reply.send(Ok(event));
        }
        if has_ended {
            self.replies.remove(&id);
            self.model_cache.sweep(&mut self.batch);
        }
    }

    /// The passes were interrupted, which ends all texts.
    fn interrupt(&mut self) {
        for (_, reply) in self.replies.drain() {
            let _ = reply.send(Err(Error::Interrupted));
        }
    }

    fn show(&self) {
        let (n_models, bytes) = self.model_cache.count();
        let n_waiting = self.waiting.len() + self.batch.n_waiting();
        self.gauges
            .running
            .store(self.batch.n_running(), Ordering::Relaxed);
        self.gauges.waiting.store(n_waiting, Ordering::Relaxed);
        self.gauges.models.store(n_models, Ordering::Relaxed);
        self.gauges.bytes.store(bytes, Ordering::Relaxed);
    }
}
