//! The trace language.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use regrow::id::Incarnation;
use regrow::policy::{
    ChildKey, ChildKind, Done, Ended, Fact, Phase, Refused, Reply, Request, RequestId, SpecError, Supervisor,
};

use super::term::{self, Declared, Flags, Whole};
use super::world::{Parked, Scripts, Step, World};

/// The trace's clock may go below zero.
const EPOCH: i64 = 1 << 40;

/// Nobody's slot.
const NOBODY: ChildKey = ChildKey::first(u32::MAX);

/// All that a trace has built up since its last `sup`.
#[derive(Default)]
pub(crate) struct Trace {
    flags: Flags,
    declared: Vec<Declared>,
    scripts: Scripts,
    parked: VecDeque<Parked>,
    last: HashMap<String, (u64, (ChildKey, Incarnation))>,
    clock: i64,
    epoch: u64,
    world: Option<World>,
    out: Vec<String>,
}

/// The command is not understood.
struct Invalid;

type Outcome = Result<(), Invalid>;

impl Trace {
    /// The lines that one command gives.
    pub(crate) fn command(&mut self, words: &[&str]) -> Vec<String> {
        if self.run(words).is_err() {
            self.out.push("invalid".to_owned());
        }
        if let Some(world) = self.world.as_ref().filter(|world| world.ended.is_some()) {
            if !matches!(world.ended, Some(Ended::BootFailed { .. })) {
                self.out.push("sup_exit shutdown".to_owned());
            }
            self.world = None;
        }
        std::mem::take(&mut self.out)
    }

    fn run(&mut self, words: &[&str]) -> Outcome {
        let needs_supervisor = matches!(words[0], "exit" | "exits" | "retry" | "call" | "stop");
        if needs_supervisor && self.world.is_none() {
            return Err(Invalid);
        }
        match words {
            ["sup", strategy, intensity, period, rest @ ..] => self.sup(strategy, intensity, period, rest),
            ["child", rest @ ..] => self.declare(rest),
            ["script", id, outcomes] => self.script(id, outcomes),
            ["onstop", id, manner] => self.on_stop(id, manner),
            ["boot"] => self.boot(),
            ["at", seconds] => self.at(seconds),
            ["exit", id, reason] => self.exits(&[&format!("{id}:{reason}")]),
            ["exits", rest @ ..] => self.exits(rest),
            ["retry"] => self.retry(),
            ["call", rest @ ..] => self.call(rest),
            ["check", rest @ ..] => self.check(rest),
            ["stop"] => self.tell(Fact::Shutdown),
            _ => Err(Invalid),
        }
    }

    fn sup(&mut self, strategy: &str, intensity: &str, period: &str, rest: &[&str]) -> Outcome {
        let out = std::mem::take(&mut self.out);
        *self = Self { out, epoch: self.epoch + 1, ..Self::default() };
        let auto = match rest {
            [] => "never",
            [auto] => auto,
            _ => return Err(Invalid),
        };
        self.flags = Flags {
            strategy: strategy.into(),
            intensity: Whole::read(intensity).ok_or(Invalid)?,
            period: Whole::read(period).ok_or(Invalid)?,
            auto: auto.into(),
        };
        Ok(())
    }

    fn declare(&mut self, words: &[&str]) -> Outcome {
        self.declared.push(Declared::read(words).ok_or(Invalid)?);
        Ok(())
    }

    fn script(&mut self, id: &str, outcomes: &str) -> Outcome {
        let outcomes = outcomes.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        self.scripts.outcomes.insert(id.into(), outcomes);
        Ok(())
    }

    fn on_stop(&mut self, id: &str, manner: &str) -> Outcome {
        self.scripts.on_stop.insert(id.into(), manner.into());
        Ok(())
    }

    fn at(&mut self, seconds: &str) -> Outcome {
        self.clock = match Whole::read(seconds) {
            Some(whole) => whole.near,
            None => floor(seconds).ok_or(Invalid)?,
        };
        Ok(())
    }

    fn boot(&mut self) -> Outcome {
        let core = match self.supervisor() {
            Ok(core) => core,
            Err(fault) => {
                self.out.push(format!("boot_error {fault}"));
                return Ok(());
            }
        };
        let template = self.declared.first().map(|child| child.id.clone()).unwrap_or_default();
        let mut world = World::new(core, template);
        self.epoch += 1;
        let mut step = self.step();
        world.tell(&mut step, Fact::Boot);
        if let Some(Ended::BootFailed { child, exit }) = &world.ended {
            let id = world.core.child(*child).map(|view| term::atom(&view.spec.id)).unwrap_or_default();
            let reason = term::reason(exit);
            self.out.push(format!("boot_error {{shutdown,{{failed_to_start_child,{id},{reason}}}}}"));
            self.epoch -= 1;
        } else {
            self.out.push("boot ok".to_owned());
            self.world = Some(world);
            self.state();
        }
        Ok(())
    }

    /// The core, or the term of the first fault in OTP's order.
    fn supervisor(&self) -> Result<Supervisor, String> {
        let data = |fault| format!("{{supervisor_data,{fault}}}");
        let spec = self.flags.spec().map_err(data)?;
        let auto = spec.auto_shutdown;
        let mut children = Vec::new();
        let mut fault = None;
        for child in &self.declared {
            match child.spec(auto) {
                Ok(child) if fault.is_none() => children.push(child),
                Ok(_) => {}
                Err(found) => fault = fault.or(Some(found)),
            }
        }
        if self.flags.is_simple() && self.declared.len() != 1 {
            children.clear();
        }
        let only_fault = fault.is_some() && children.is_empty() && self.declared.len() == 1;
        match Supervisor::new(spec, children) {
            Err(SpecError::AutoShutdownWithSimple) => Err(data(format!(
                "{{bad_combination,[{{auto_shutdown,{}}},{{strategy,simple_one_for_one}}]}}",
                self.flags.auto
            ))),
            Err(SpecError::OneTemplate { .. }) if !only_fault => Err("bad_start_spec".to_owned()),
            Err(error) if !only_fault => Err(format!("{{start_spec,{}}}", term::spec_error(&error))),
            Ok(_) | Err(_) if fault.is_some() => Err(format!("{{start_spec,{}}}", fault.unwrap_or_default())),
            Ok(core) => Ok(core),
            Err(error) => Err(term::spec_error(&error)),
        }
    }

    fn exits(&mut self, pairs: &[&str]) -> Outcome {
        let mut seen = Vec::new();
        for pair in pairs {
            let (id, reason) = pair.split_once(':').ok_or(Invalid)?;
            let (epoch, process) = *self.last.get(id).ok_or(Invalid)?;
            let world = self.world.as_ref().ok_or(Invalid)?;
            if epoch != self.epoch
                || !world.is_alive(process)
                || seen.iter().any(|(known, _)| *known == process)
            {
                return Err(Invalid);
            }
            seen.push((process, term::exit(if reason == "kill" { "killed" } else { reason })));
        }
        self.with_world(|world, step| {
            for (process, exit) in seen {
                world.die(process, exit);
            }
            world.drain(step);
        });
        self.state();
        Ok(())
    }

    fn retry(&mut self) -> Outcome {
        let Some(parked) = self.parked.pop_front() else {
            self.out.push("nothing_parked".to_owned());
            return Ok(());
        };
        self.with_world(|world, step| world.retry(step, &parked));
        self.state();
        Ok(())
    }

    fn tell(&mut self, fact: Fact) -> Outcome {
        self.with_world(|world, step| world.tell(step, fact));
        Ok(())
    }

    fn step(&mut self) -> Step<'_> {
        Step {
            now: Duration::from_secs(EPOCH.saturating_add(self.clock).max(0).unsigned_abs()),
            scripts: &mut self.scripts,
            parked: &mut self.parked,
            last: &mut self.last,
            epoch: self.epoch,
            out: &mut self.out,
        }
    }

    fn with_world(&mut self, act: impl FnOnce(&mut World, &mut Step<'_>)) {
        let Some(mut world) = self.world.take() else { return };
        act(&mut world, &mut self.step());
        self.world = Some(world);
    }
}

/// Calls and what they answer.
impl Trace {
    fn call(&mut self, words: &[&str]) -> Outcome {
        let simple = self.flags.is_simple();
        match words {
            ["which"] => self.state(),
            ["count"] => self.count(),
            ["spec", id] => self.show_spec(id),
            ["start", id] if simple => self.start_dynamic(id),
            ["start", _] => self.answer("{error,invalid_child_spec}"),
            ["start", rest @ ..] => self.start_child(&Declared::read(rest).ok_or(Invalid)?),
            ["terminate", id] => self.terminate(id),
            ["restart", id] => self.ask(Request::Revive { child: self.key(id) }),
            ["delete", id] => self.ask(Request::Delete { child: self.key(id) }),
            _ => return Err(Invalid),
        }
        Ok(())
    }

    fn key(&self, id: &str) -> ChildKey {
        self.world.as_ref().and_then(|world| world.core.key(id)).unwrap_or(NOBODY)
    }

    fn start_dynamic(&mut self, id: &str) {
        let template = self.declared.first().cloned();
        let Some(mut spec) = template.and_then(|child| child.spec(regrow::policy::AutoShutdown::Never).ok())
        else {
            return;
        };
        spec.id = id.into();
        self.ask(Request::Add { spec: Box::new(spec) });
    }

    fn start_child(&mut self, declared: &Declared) {
        if self.flags.is_simple() {
            return self.answer("{error,{'EXIT',badarg}}");
        }
        let auto = term::auto(&self.flags.auto).unwrap_or(regrow::policy::AutoShutdown::Never);
        match declared.spec(auto) {
            Ok(spec) => self.ask(Request::Add { spec: Box::new(spec) }),
            Err(fault) => {
                let fault =
                    if fault.starts_with("{bad_combination") { "bad_combination".into() } else { fault };
                self.answer(&format!("{{error,{fault}}}"));
            }
        }
    }

    /// A pool's child is named by its last process, which may be gone.
    fn terminate(&mut self, id: &str) {
        if !self.flags.is_simple() {
            return self.ask(Request::Terminate { child: self.key(id) });
        }
        let Some((epoch, process)) = self.last.get(id).copied() else {
            return self.answer("{error,simple_one_for_one}");
        };
        let here =
            |world: &World| epoch == self.epoch && (world.is_alive(process) || world.is_retrying(process));
        let child = if self.world.as_ref().is_some_and(here) { process.0 } else { NOBODY };
        self.ask(Request::Terminate { child });
    }

    fn ask(&mut self, request: Request) {
        let revives = matches!(request, Request::Revive { .. });
        self.with_world(|world, step| world.tell(step, Fact::Request { id: RequestId(0), request }));
        let Some(reply) = self.world.as_mut().and_then(|world| world.replies.pop()) else { return };
        let text = self.reply_text(&reply, revives);
        self.answer(&text);
    }

    fn answer(&mut self, text: &str) {
        self.out.push(format!("reply {text}"));
        self.state();
    }

    fn reply_text(&self, reply: &Reply, short: bool) -> String {
        let simple = self.flags.is_simple();
        match reply {
            Ok(Done::Ok) => "ok".into(),
            Ok(Done::Ignored) => "{ok,undefined}".into(),
            Ok(Done::Up(key, _)) => {
                let name = self.world.as_ref().and_then(|world| world.name(*key));
                format!("{{ok,'{}'}}", name.cloned().unwrap_or_default())
            }
            Err(Refused::StartFailed(exit)) => {
                let reason = term::reason(exit);
                let plain = (short || simple) && reason.starts_with("{already_started");
                format!("{{error,{}}}", if plain { "already_started" } else { &reason })
            }
            Err(Refused::NotFound) => "{error,not_found}".into(),
            Err(Refused::Running) => "{error,running}".into(),
            Err(Refused::Restarting) => "{error,restarting}".into(),
            Err(Refused::AlreadyStarted) => "{error,already_started}".into(),
            Err(Refused::AlreadyPresent) => "{error,already_present}".into(),
            Err(Refused::SimpleOneForOne) => "{error,simple_one_for_one}".into(),
            Err(Refused::BadSpec(fault)) => format!("{{error,{}}}", term::spec_error(fault)),
            Err(Refused::CannotRecover(reason)) => format!("{{error,{reason}}}"),
            Err(Refused::ShuttingDown) => "{error,shutting_down}".into(),
        }
    }

    fn show_spec(&mut self, id: &str) {
        let text = if self.flags.is_simple() {
            let auto = regrow::policy::AutoShutdown::Never;
            let template = self.declared.first().and_then(|child| child.spec(auto).ok());
            self.last.get(id).and(template).map(|spec| term::spec_map(&spec))
        } else {
            let view = self.world.as_ref().and_then(|world| world.core.child(self.key(id)));
            view.map(|view| term::spec_map(view.spec))
        };
        self.out.push(format!("reply {}", text.unwrap_or_else(|| "{error,not_found}".into())));
    }

    fn count(&mut self) {
        let Some(world) = &self.world else { return };
        let views: Vec<_> = world.core.children().filter_map(|key| world.core.child(key)).collect();
        let size = i64::try_from(views.len()).unwrap_or(i64::MAX);
        let supervisor = |kind: ChildKind| kind == ChildKind::Supervisor;
        let pool_of_supervisors = self.declared.first().is_some_and(|child| child.kind == "supervisor");
        let (specs, active, supervisors) = if world.is_simple() {
            (1, size - world.restarting, if pool_of_supervisors { size } else { 0 })
        } else {
            let up = views.iter().filter(|view| view.phase == Phase::Running).count();
            let supervisors = views.iter().filter(|view| supervisor(view.spec.kind)).count();
            (size, i64::try_from(up).unwrap_or_default(), i64::try_from(supervisors).unwrap_or_default())
        };
        let workers = size - supervisors;
        self.out.push(format!(
            "reply [{{specs,{specs}}},{{active,{active}}},{{supervisors,{supervisors}}},{{workers,{workers}}}]"
        ));
    }

    fn check(&mut self, words: &[&str]) -> Outcome {
        let [id, restart, shutdown, kind, significant, auto] = words else { return Err(Invalid) };
        let mut declared = Declared::read(&[id, restart, shutdown, kind]).ok_or(Invalid)?;
        declared.significant = (*significant).into();
        let reply = match term::auto(auto) {
            None => format!("{{error,{{badarg,{}}}}}", term::atom(auto)),
            Some(auto) => {
                declared.spec(auto).map_or_else(|fault| format!("{{error,{fault}}}"), |_| "ok".to_owned())
            }
        };
        self.out.push(format!("reply {reply}"));
        Ok(())
    }

    /// Who is there, while somebody answers.
    fn state(&mut self) {
        let Some(world) = self.world.as_ref().filter(|world| world.ended.is_none()) else { return };
        let simple = world.is_simple();
        let mut shown: Vec<String> = Vec::new();
        for key in world.core.children() {
            let Some(view) = world.core.child(key) else { continue };
            let up = world.name(key).filter(|_| view.phase == Phase::Running);
            shown.push(match (up, view.phase) {
                (Some(name), _) => format!("{name}=up"),
                (None, Phase::Backoff) if simple => "restarting=restarting".into(),
                (None, Phase::Backoff) => format!("{}=restarting", view.spec.id),
                (None, _) => format!("{}=down", view.spec.id),
            });
        }
        if simple {
            shown.sort_by(|a, b| a.split('=').next().cmp(&b.split('=').next()));
        }
        self.out.push(format!("state {}", shown.join(" ")));
    }
}

/// The floor of a decimal as Erlang reads one.
fn floor(text: &str) -> Option<i64> {
    let (whole, part) = text.split_once('.')?;
    let digits = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit());
    if !digits(whole.trim_start_matches(['-', '+'])) || !part.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let value: f64 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "a trace's clock is small")]
    let floored = value.floor() as i64;
    Some(floored)
}
