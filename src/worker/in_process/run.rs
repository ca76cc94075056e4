//! The life of one incarnation, as its own code sees it: start, then one thing after the other until the end.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::Mutex;

use super::context::Context;
use super::failure::{WorkerError, in_words};
use super::inbox::{Ask, Inbox, Next, Order};
use super::life::{End, Life};
use super::panic::{Panicked, contain};
use super::registry::{Owned, read};
use super::saved::Saved;
use super::worker::{Restored, Worker};

/// Where the user's state lies. The running code borrows it; when that code unwinds, only the borrow is dropped.
pub(super) struct Home<W>(Mutex<Option<W>>);

impl<W> Default for Home<W> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<W: Send> Owned for Home<W> {
    fn clear(&self) {
        // Free whenever the future that borrows it is gone, and nobody clears before.
        if let Ok(mut place) = self.0.try_lock() {
            let state = place.take();
            drop(place);
            drop(state);
        }
    }
}

/// Everything from start to end.
pub(super) async fn run<W: Worker>(
    life: Arc<Life>,
    inbox: Arc<Inbox<W::Message>>,
    home: Arc<Home<W>>,
) -> End {
    let ctx = Context::<W>::new(Arc::clone(&life));
    let config = match read::<W::Config>(&life.site.settings.config.value()) {
        Ok(config) => config,
        Err(error) => return End::Failed(format!("its config cannot be read: {error}")),
    };
    let restored = if life.site.saved.any() { Box::pin(restore::<W>(&life)).await } else { Restored::Fresh };
    let made = match W::start(ctx.clone(), config, restored).await {
        Ok(made) => made,
        Err(error) => return failed(&error),
    };
    let mut place = home.0.lock().await;
    let worker = place.insert(made);
    life.ready();
    loop {
        // A kill wakes code that waits for the end; what is still in the mailbox is not for it any more.
        if life.is_killed() {
            return End::Killed;
        }
        let went = match inbox.next(life.incarnation).await {
            // Caught here and not only around all of it: every frame that a panic goes through costs half of a microsecond.
            Next::Message(message) => match caught(life.site.number, worker.message(message, &ctx)).await {
                Ok(went) => went,
                Err(panicked) => return End::Panicked(panicked),
            },
            // In boxes: what seldom runs must not take room beside what waits for a message.
            Next::Order(Order::Ask(ask)) => Box::pin(answer(worker, ask, &ctx)).await,
            Next::Order(Order::End(end)) => return end,
            Next::Order(Order::Stop) => return Box::pin(stop(worker, &ctx)).await,
            Next::Over => return End::Killed,
        };
        if let Err(error) = went {
            return failed(&error);
        }
    }
}

/// A step of user code whose panic is an answer.
async fn caught<T>(who: u64, step: impl Future<Output = T>) -> Result<T, Box<Panicked>> {
    let mut step = pin!(step);
    poll_fn(|context| match contain(who, || step.as_mut().poll(context)) {
        Ok(polled) => polled.map(Ok),
        Err(panicked) => Poll::Ready(Err(panicked)),
    })
    .await
}

async fn restore<W: Worker>(life: &Arc<Life>) -> Restored<W::State> {
    let own = Arc::clone(life);
    let read = tokio::task::spawn_blocking(move || own.site.saved.read::<W::State>());
    read.await.unwrap_or_else(|error| Restored::Unreadable { reason: error.to_string() })
}

async fn answer<W: Worker>(worker: &mut W, ask: Ask, ctx: &Context<W>) -> Result<(), WorkerError> {
    match ask {
        Ask::Snapshot => keep(worker, ctx).await,
        // Who asked and went away needs no answer; so below.
        Ask::Health(reply) => drop(reply.send(worker.health().await)),
        Ask::ResetConnections(reply) => {
            worker.reset_connections().await?;
            let _ = reply.send(());
        }
        Ask::TrimMemory(reply) => {
            worker.trim_memory().await;
            let _ = reply.send(());
        }
        Ask::Task(task, reply) => drop(reply.send(worker.handle(task, ctx).await)),
    }
    Ok(())
}

async fn stop<W: Worker>(worker: &mut W, ctx: &Context<W>) -> End {
    worker.stop(ctx).await;
    if ctx.life().site.settings.snapshot.on_stop {
        keep(worker, ctx).await;
    }
    End::Stopped
}

/// A snapshot that cannot be written is no reason to end a worker that works; it is said once per reason.
async fn keep<W: Worker>(worker: &mut W, ctx: &Context<W>) {
    let Some(state) = worker.snapshot().await else { return };
    let (encoded, life) = (Saved::encode(&state), Arc::clone(ctx.life()));
    drop(state);
    let written = match encoded {
        Ok(bytes) => {
            let own = Arc::clone(&life);
            let write = move || own.site.saved.write(&bytes, || !own.is_over());
            tokio::task::spawn_blocking(write).await.unwrap_or(Ok(()))
        }
        Err(error) => Err(error),
    };
    life.site.saved_or_not(life.incarnation, written);
}

fn failed(error: &WorkerError) -> End {
    End::Failed(in_words(&**error))
}
