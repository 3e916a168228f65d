//! The engine: one thread that decodes the texts of all users together and owns all contexts. A text reaches it as a
//! [`Job`], and its events go back one by one.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedSender;

use super::api_error::ApiError;
use super::auth::PrefixOwner;
use super::metrics::Gauges;
use super::model_cache::{ModelCache, ServerBatch};
use super::settings::EngineSettings;
use super::voice_request::VoiceRequest;
use crate::decode::{
    AnswerOptions, Batch, BatchEvent, PassSchedule, Processor, TextId, TextRequest,
};
use crate::home::Home;
use crate::llama::{Model, Token, devices};
use crate::{Error, Result};

/// The most prompt tokens that are read between two tokens of the texts under way: a tenth of a second on a CPU.
pub const N_PROMPT: usize = 128;

/// The interval at which an idle engine looks whether adapters have changed.
const IDLE: Duration = Duration::from_secs(5);

/// An event of a text, or the error that ends the text.
pub type TextEvent = Result<BatchEvent, ApiError>;

/// A text to decode.
#[derive(Debug)]
pub struct Job {
    /// The voice of the text.
    pub voice: VoiceRequest,
    /// The tokens of the prompt.
    pub prompt: Vec<Token>,
    /// Options of sampling, and the limits of the text.
    pub options: AnswerOptions,
    /// The number of candidates that are explained beside each choice, if choices are explained.
    pub explained: Option<usize>,
    /// Whether the tokens of the prompt are explained too.
    pub explains_prompt: bool,
    /// The owner of the prompt's cached prefix: only texts of the same owner go on from it.
    pub owner: PrefixOwner,
    /// Where the events go. The text ends when the receiver is dropped.
    pub reply: UnboundedSender<TextEvent>,
}

/// A handle of the decoding thread, which ends when the handle is dropped.
#[derive(Debug)]
pub struct Engine {
    jobs: Sender<Job>,
    gauges: Arc<Gauges>,
    thread: JoinHandle<()>,
}

impl Engine {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The file of the base cannot be read; [`Error::Lack`] when no thread can be started.
    pub fn start(home: &Home, model: &Arc<Model>, settings: &EngineSettings) -> Result<Self> {
        let gauges = Arc::new(Gauges::default());
        // On a CPU, passes of few texts run side by side; a GPU computes them one after the other.
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
            owners: HashSet::new(),
            home: home.clone(),
            gauges: Arc::clone(&gauges),
        };
        Self::with_worker(gauges, move |jobs| worker.run(jobs))
    }

    /// Starts a thread that takes jobs by `work`.
    fn with_worker(
        gauges: Arc<Gauges>,
        work: impl FnOnce(&Receiver<Job>) + Send + 'static,
    ) -> Result<Self> {
        let (jobs, receiver) = channel();
        let thread = std::thread::Builder::new()
            .name("decode".into())
            .spawn(move || work(&receiver))
            .map_err(|error| Error::lack(format!("cannot start the decoding thread: {error}")))?;
        Ok(Self {
            jobs,
            gauges,
            thread,
        })
    }

    /// Hands a text to the thread.
    ///
    /// # Errors
    ///
    /// [`Error::Bug`] when the thread has panicked.
    pub fn submit(&self, job: Job) -> Result<()> {
        self.jobs.send(job).map_err(|_| dead())
    }

    /// Checks that the thread is alive.
    ///
    /// # Errors
    ///
    /// [`Error::Bug`] when it has panicked.
    pub fn check(&self) -> Result<()> {
        if self.thread.is_finished() {
            return Err(dead());
        }
        Ok(())
    }

    /// The state of the thread at this moment.
    pub fn gauges(&self) -> &Gauges {
        &self.gauges
    }
}

/// The error of a thread that has panicked.
pub fn dead() -> Error {
    Error::bug("the decoder has stopped and the server has to be started again")
}

/// The thread's own state.
struct Worker {
    model_cache: ModelCache,
    batch: ServerBatch,
    /// Where the events of each text of the batch go.
    replies: HashMap<TextId, UnboundedSender<TextEvent>>,
    /// Texts that are not in the batch yet, since there is no room for their models.
    waiting: VecDeque<Job>,
    /// The owners of what the models keep.
    owners: HashSet<PrefixOwner>,
    home: Home,
    gauges: Arc<Gauges>,
}

impl Worker {
    fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            if self.replies.is_empty() {
                self.sweep();
                self.update_gauges();
                match jobs.recv_timeout(IDLE) {
                    Ok(job) => self.waiting.push_back(job),
                    Err(RecvTimeoutError::Timeout) => continue,
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
            self.waiting.extend(jobs.try_iter());
            self.cancel_abandoned();
            self.begin_waiting();
            self.update_gauges();
            match self.batch.next() {
                Some(Ok((id, event))) => self.send(id, event),
                Some(Err(error)) => self.fail_all(error),
                None => {}
            }
        }
    }

    /// Ends the texts whose clients have gone.
    fn cancel_abandoned(&mut self) {
        self.waiting.retain(|job| !job.reply.is_closed());
        let abandoned = self.replies.extract_if(|_, reply| reply.is_closed());
        for (id, _) in abandoned {
            self.batch.cancel(id);
        }
    }

    /// Hands the batch those waiting texts whose models are loaded or can be.
    fn begin_waiting(&mut self) {
        for job in std::mem::take(&mut self.waiting) {
            let policy = match self.model_cache.open(&job.voice, &mut self.batch) {
                Ok(Some(policy)) => policy,
                Ok(None) => {
                    self.waiting.push_back(job);
                    continue;
                }
                Err(error) => {
                    fail(&job.reply, error);
                    continue;
                }
            };
            let request = TextRequest {
                prompt: job.prompt,
                base_prompt: None,
                policy,
                options: job.options,
                explained: job.explained,
                explains_prompt: job.explains_prompt,
                owner: Some(job.owner.number()),
            };
            self.owners.insert(job.owner);
            match self.batch.push(request) {
                Ok(id) => {
                    self.replies.insert(id, job.reply);
                }
                Err(error) => fail(&job.reply, error),
            }
        }
    }

    /// Sends an event of a text to its client, and forgets the text if the event ends it.
    fn send(&mut self, id: TextId, event: BatchEvent) {
        let has_ended = matches!(event, BatchEvent::Finished { .. } | BatchEvent::Failed(_));
        if let Some(reply) = self.replies.get(&id) {
            match event {
                BatchEvent::Failed(error) => fail(reply, error),
                // Whether the client has gone is seen before the next pass.
                event => drop(reply.send(Ok(event))),
            }
        }
        if has_ended {
            self.replies.remove(&id);
            self.sweep();
        }
    }

    /// Drops the models of adapters that were trained anew, and everything of users who were deleted.
    fn sweep(&mut self) {
        self.model_cache.sweep(&mut self.batch);
        let is_gone = |owner: &&PrefixOwner| {
            let user = owner.user().cloned();
            user.is_some_and(|user| self.home.user(user).is_err())
        };
        let gone: Vec<_> = self.owners.iter().filter(is_gone).cloned().collect();
        for owner in gone {
            self.batch.forget(owner.number());
            // A text that waits for a sequence will leave something there.
            if self.batch.n_waiting() == 0 {
                self.owners.remove(&owner);
            }
        }
    }

    /// Ends all texts, since the batch was interrupted.
    fn fail_all(&mut self, error: Error) {
        let error = ApiError::from(error);
        for (_, reply) in self.replies.drain() {
            drop(reply.send(Err(error.clone())));
        }
    }

    fn update_gauges(&self) {
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

/// Tells the client of one text the error that ends it. A client that has gone does not hear it.
fn fail(reply: &UnboundedSender<TextEvent>, error: Error) {
    drop(reply.send(Err(error.into())));
}

#[cfg(test)]
mod tests {
    use axum::http::StatusCode;
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;
    use crate::decode::ArmKind;
    use crate::serve::auth::Caller;

    fn job() -> (Job, tokio::sync::mpsc::UnboundedReceiver<TextEvent>) {
        let voice = VoiceRequest {
            user: None,
            scale: 1.0,
            arm: ArmKind::Base,
            contrast: None,
            plausibility: None,
        };
        let (reply, events) = unbounded_channel();
        let job = Job {
            voice,
            prompt: vec![1],
            options: AnswerOptions::default(),
            explained: None,
            explains_prompt: false,
            owner: Caller::Admin.prefix_owner(None),
            reply,
        };
        (job, events)
    }

    #[test]
    fn a_dead_decoder_is_a_fault_of_the_server() {
        let engine = Engine::with_worker(Arc::default(), |jobs| {
            let _job = jobs.recv();
            panic!("a panic that this test makes");
        })
        .unwrap();
        engine.check().unwrap();
        let (first, mut events) = job();
        engine.submit(first).unwrap();
        // The text under way ends without an event.
        assert!(events.blocking_recv().is_none());
        while engine.check().is_ok() {
            std::thread::yield_now();
        }
        let error = ApiError::from(engine.submit(job().0).unwrap_err());
        assert_eq!(error.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert!(error.message.contains("the decoder has stopped"));
    }
}
