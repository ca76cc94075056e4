//! One file and its connection: group commit, and what is done when the file fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use rusqlite::Connection;

use super::error::StoreError;
use super::lane::Job;
use super::open::Place;
use super::state::Health;
use super::witness::{Loss, Witness};

/// The file, as the writing thread has it.
pub(super) struct Db {
    place: Place,
    conn: Option<Connection>,
    /// Sees whether the file is still the one that was opened.
    witness: Option<Witness>,
    health: Arc<Health>,
}

impl Db {
    /// Opens it. What cannot be opened is tried again with every commit.
    pub(super) fn open(place: Place, health: Arc<Health>) -> Self {
        let emptied = place.is_empty();
        let mut db = Self { place, conn: None, witness: None, health };
        let result = db.ensure();
        if emptied && result.is_ok() {
            db.health.note(format!(
                "{} was there and empty, and begins anew: what it held, if it held anything, is gone; look at the disk",
                db.place.name
            ));
        }
        db.health.tell(result.err());
        db
    }

    pub(super) fn conn(&self) -> Option<&Connection> {
        self.conn.as_ref()
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    fn ensure(&mut self) -> Result<(), StoreError> {
        if self.conn.is_some() {
            return Ok(());
        }
        let conn = match self.place.open() {
            Err(error) if error.is_damage() => {
                self.renew(&error)?;
                self.place.open()?
            }
            other => other?,
        };
        self.health.open.store(true, Ordering::Release);
        self.conn = Some(conn);
        self.witness = Witness::of(&self.place.path());
        Ok(())
    }

    /// A file that somebody has deleted or put another one in the place of goes on taking everything, and nobody will
    /// ever read it again: what comes from now on goes into one that is there. Not into one of another directory: that
    /// is not ours.
    fn notice_loss(&mut self) -> Result<(), StoreError> {
        if !self.place.home.settle() {
            let text = "its directory was removed; it goes on once that is made again";
            return Err(StoreError::Failed(text.to_owned()));
        }
        let Some(loss) = self.witness.as_ref().and_then(|witness| witness.loss(&self.place.path())) else {
            return Ok(());
        };
        self.conn = None;
        self.witness = None;
        self.place.remove_companions();
        self.health.open.store(false, Ordering::Release);
        self.health.note(loss.text(self.place.name));
        if loss == Loss::Replaced {
            self.health.others.fetch_add(1, Ordering::AcqRel);
        }
        self.health.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// A reader has met damage that the memory of this connection may hide: looks at the file itself.
    pub(super) fn suspect(&mut self) {
        self.conn = None;
        let result = match self.place.look_over_all() {
            Err(error) if error.is_damage() => self.renew(&error).and_then(|()| self.ensure()),
            Ok(()) | Err(_) => self.ensure(),
        };
        self.health.tell(result.err());
    }

    /// Moves the damaged file aside.
    fn renew(&mut self, why: &StoreError) -> Result<(), StoreError> {
        self.conn = None;
        self.witness = None;
        self.health.open.store(false, Ordering::Release);
        let note = self.place.set_aside(why)?;
        self.health.note(note);
        // Readers hold the old file open; this number tells them.
        self.health.generation.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Does all of these or none, and answers each. One that the database refuses for what it says is left out alone.
    pub(super) fn commit(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        let mut result = self.attempt(&mut jobs);
        if let Err(error) = &result
            && error.is_damage()
        {
            let why = error.clone();
            result = self.renew(&why).and_then(|()| self.attempt(&mut jobs));
        }
        match result {
            Ok(single) => {
                self.health.tell(None);
                for (job, outcome) in jobs.into_iter().zip(single) {
                    job.answer(outcome);
                }
            }
            Err(error) => {
                // After an error of the disk it is not known what is there: the next try looks at the file anew.
                self.conn = None;
                self.health.tell(Some(error.clone()));
                for job in jobs {
                    job.answer(Err(error.clone()));
                }
            }
        }
    }

    fn attempt(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<Vec<Result<(), StoreError>>, StoreError> {
        self.notice_loss()?;
        self.ensure()?;
        let Some(conn) = &self.conn else { return Err(StoreError::Closed) };
        conn.execute_batch("BEGIN IMMEDIATE")?;
        let done = jobs.iter_mut().map(|job| single(conn, job.as_mut())).collect::<Result<Vec<_>, _>>();
        match done.and_then(|done| Ok(conn.execute_batch("COMMIT").map(|()| done)?)) {
            Ok(done) => Ok(done),
            Err(error) => {
                // SQLite has rolled back already after most errors, and says so with another one.
                let _ = conn.execute_batch("ROLLBACK");
                Err(error)
            }
        }
    }
}

/// One job within the transaction. The outer error is one of the file, the inner one its own.
fn single(conn: &Connection, job: &mut dyn Job) -> Result<Result<(), StoreError>, StoreError> {
    conn.execute_batch("SAVEPOINT one")?;
    match job.run(conn) {
        Ok(()) => {
            conn.execute_batch("RELEASE one")?;
            Ok(Ok(()))
        }
        Err(error) if is_its_own(&error) => {
            conn.execute_batch("ROLLBACK TO one; RELEASE one")?;
            Ok(Err(error.into()))
        }
        Err(error) => Err(error.into()),
    }
}

/// Whether an error is about what a job says and not about the file.
fn is_its_own(error: &rusqlite::Error) -> bool {
    match error.sqlite_error_code() {
        None => true,
        Some(code) => matches!(
            code,
            rusqlite::ErrorCode::ConstraintViolation
                | rusqlite::ErrorCode::TypeMismatch
                | rusqlite::ErrorCode::TooBig
        ),
    }
}
