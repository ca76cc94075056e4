//! Problems, told as a compiler tells them: file, line, column, the line itself, a caret, and what to do.
//!
//! All problems of all files come in one run, in the order of the files, because fixing one error per run is
//! how an afternoon is lost. The cost is that one slip can cause a second message further down; stages that
//! would only repeat an earlier one stay silent.

use std::collections::HashSet;
use std::fmt;

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

use super::document::{Document, Place};

/// Shown at most; a binary file given by mistake has a problem on every line.
const MAX_SHOWN: usize = 50;
/// Kept at most, for programs that ask for all.
const MAX_KEPT: usize = 1000;
/// Longest piece of a user's text inside a message.
const MAX_QUOTED: usize = 60;

/// Everything that is wrong with a configuration. Never empty.
#[derive(Debug, Clone)]
pub struct Diagnostics {
    /// At most [`MAX_KEPT`].
    problems: Vec<Problem>,
    count: usize,
    documents: Vec<Document>,
}

/// One thing that is wrong, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    title: String,
    place: Option<Place>,
    label: Option<String>,
    also: Option<(Place, String)>,
    help: Vec<String>,
    file: Option<String>,
    /// The line may hold a secret, so only its number is shown.
    secret: bool,
    /// Something is missing, which may stand where a text could not be read.
    missing: bool,
}

/// A problem as data, for programs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct ProblemView {
    /// What is wrong.
    pub message: String,
    /// The file, `environment` or `command line`.
    pub file: Option<String>,
    /// From 1.
    pub line: Option<usize>,
    /// From 1, in characters.
    pub column: Option<usize>,
    /// What to do about it.
    pub help: Vec<String>,
}

impl ProblemView {
    /// `FILE:LINE:COLUMN: what is wrong`, in one line.
    #[must_use]
    pub fn line(&self) -> String {
        let number = |number: Option<usize>| number.map(|number| format!(":{number}")).unwrap_or_default();
        let place = |file: &String| format!("{file}{}{}: ", number(self.line), number(self.column));
        format!("{}{}", self.file.as_ref().map(place).unwrap_or_default(), self.message)
    }
}

impl Problem {
    pub(super) fn new(place: Option<Place>, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            place,
            label: None,
            also: None,
            help: Vec::new(),
            file: None,
            secret: false,
            missing: false,
        }
    }

    /// Something is missing that may stand in a part that could not be read.
    pub(super) fn missing(mut self) -> Self {
        self.missing = true;
        self
    }

    pub(super) fn is_missing(&self) -> bool {
        self.missing
    }

    /// A problem with a file as a whole.
    pub(super) fn of_file(file: impl Into<String>, title: impl Into<String>) -> Self {
        Self { file: Some(file.into()), ..Self::new(None, title) }
    }

    /// Words beside the caret.
    pub(super) fn label(mut self, text: impl Into<String>) -> Self {
        self.label = Some(text.into());
        self
    }

    /// What to do.
    pub(super) fn help(mut self, text: impl Into<String>) -> Self {
        self.help.push(text.into());
        self
    }

    /// [`Self::help`], if there is any.
    pub(super) fn help_if(self, text: Option<impl Into<String>>) -> Self {
        match text {
            Some(text) => self.help(text),
            None => self,
        }
    }

    /// "Did you mean", if there is a word near enough.
    pub(super) fn suggest(self, word: Option<&str>) -> Self {
        self.help_if(word.map(|word| format!("did you mean `{word}`?")))
    }

    /// A second place that belongs to it.
    pub(super) fn also(mut self, place: Option<Place>, text: impl Into<String>) -> Self {
        self.also = place.map(|place| (place, text.into()));
        self
    }

    /// Shows where it stands, but not what stands there.
    pub(super) fn hide_line(&mut self) {
        self.secret = true;
        self.label = None;
    }

    pub(super) fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Whether it is about something that stands within this.
    pub(super) fn lies_in(&self, whole: &Place) -> bool {
        self.place.as_ref().is_some_and(|own| {
            own.document == whole.document
                && whole.range.start <= own.range.start
                && own.range.end <= whole.range.end
        })
    }
}

impl Diagnostics {
    /// Takes the problems of one run; a value inherited by a hundred workers is one problem.
    pub(super) fn new(problems: Vec<Problem>, documents: Vec<Document>) -> Self {
        let mut seen = HashSet::new();
        let mut problems: Vec<Problem> = problems
            .into_iter()
            .filter(|problem| seen.insert((problem.place.clone(), problem.title.clone())))
            .collect();
        problems
            .sort_by_key(|problem| problem.place.as_ref().map(|place| (place.document, place.range.start)));
        let count = problems.len();
        problems.truncate(MAX_KEPT);
        Self { problems, count, documents }
    }

    /// Problems that stand nowhere in a file, and what to do about each.
    pub(crate) fn of_whole(titles: Vec<String>, help: &str) -> Self {
        let problem = |title| Problem::new(None, title).help_if((!help.is_empty()).then_some(help));
        Self::new(titles.into_iter().map(problem).collect(), Vec::new())
    }

    /// How many problems there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// The problems as data, the first thousand.
    #[must_use]
    pub fn problems(&self) -> Vec<ProblemView> {
        self.problems.iter().map(|problem| self.view(problem)).collect()
    }

    /// All problems as text for people, with a count line at the end.
    #[must_use]
    pub fn render(&self, colour: bool) -> String {
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        let renderer = renderer.decor_style(DecorStyle::Ascii);
        let mut text = String::new();
        for problem in self.problems.iter().take(MAX_SHOWN) {
            text.push_str(&renderer.render(&[self.group(problem)]));
            text.push_str("\n\n");
        }
        if let Some(more) = self.count.checked_sub(MAX_SHOWN).filter(|more| *more > 0) {
            text.push_str(&format!("... and {more} more\n\n"));
        }
        text.push_str(&self.count_line());
        text
    }

    /// All of it in one line: how many, and the first.
    #[must_use]
    pub fn summary(&self) -> String {
        match self.problems.first().map(|problem| self.view(problem)) {
            Some(first) => format!("{}; the first: {}", self.count_line(), first.line()),
            None => self.count_line(),
        }
    }

    fn count_line(&self) -> String {
        let files: HashSet<String> =
            self.problems.iter().filter_map(|problem| self.view(problem).file).collect();
        let problems = plural(self.count, "problem");
        match files.len() {
            0 => problems,
            n => format!("{problems} in {}", plural(n, "file")),
        }
    }

    fn view(&self, problem: &Problem) -> ProblemView {
        let found =
            problem.place.as_ref().and_then(|place| Some((self.documents.get(place.document)?, place)));
        let position = found.map(|(document, place)| document.position(place.range.start));
        ProblemView {
            message: problem.title.clone(),
            file: found.map(|(document, _)| document.name.clone()).or_else(|| problem.file.clone()),
            line: position.map(|position| position.line),
            column: position.map(|position| position.column),
            help: problem.label.iter().chain(&problem.help).cloned().collect(),
        }
    }

    fn group<'a>(&'a self, problem: &'a Problem) -> Group<'a> {
        let mut group = Group::with_title(Level::ERROR.primary_title(problem.title.as_str()));
        if let Some(file) = &problem.file {
            group = group.element(annotate_snippets::Origin::path(file.as_str()));
        }
        let line = problem.place.as_ref().and_then(|place| self.document_line(place));
        if let Some(line) = line.as_ref().filter(|_| problem.secret) {
            group = group.element(annotate_snippets::Origin::path(line.name).line(line.number));
        }
        if let Some(snippet) = line.filter(|_| !problem.secret) {
            group = group.element(snippet.annotated(AnnotationKind::Primary, problem.label.as_deref()));
        }
        if let Some((place, words)) = &problem.also
            && let Some(snippet) = self.document_line(place)
        {
            group = group.element(snippet.annotated(AnnotationKind::Context, Some(words)));
        }
        group.elements(problem.help.iter().map(|help| Level::HELP.message(help.as_str())))
    }

    /// Only the line of a place: a picture of a table over forty lines explains nothing.
    fn document_line(&self, place: &Place) -> Option<LineOf<'_>> {
        let document = self.documents.get(place.document)?;
        let (line, start, number) = document.line(place.range.start);
        let from = place.range.start.saturating_sub(start).min(line.len());
        let to = place.range.end.saturating_sub(start).clamp(from, line.len());
        Some(LineOf { name: &document.name, line, number, from, to })
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(false))
    }
}

impl std::error::Error for Diagnostics {}

/// One line of a document and the stretch of it that is meant.
struct LineOf<'a> {
    name: &'a str,
    line: &'a str,
    number: usize,
    from: usize,
    to: usize,
}

impl<'a> LineOf<'a> {
    fn annotated(
        self,
        kind: AnnotationKind,
        label: Option<&'a str>,
    ) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
        Snippet::source(self.line)
            .line_start(self.number)
            .path(self.name)
            .annotation(kind.span(self.from..self.to).label(label))
    }
}

/// A user's text inside a message: short, on one line, and unable to steer the terminal.
pub(super) fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(MAX_QUOTED).flat_map(char::escape_debug).collect();
    if text.chars().count() > MAX_QUOTED {
        shown.push('…');
    }
    // `escape_debug` also escapes quotes, which are harmless here.
    format!("`{}`", shown.replace("\\\"", "\"").replace("\\'", "'"))
}

/// Names that are written out of those of whom the same is said.
const NAMED: usize = 4;

/// `` `a`, `b` ``, and how many more.
pub(super) fn named(names: &[&str]) -> String {
    let listed: Vec<String> = names.iter().take(NAMED).map(|name| format!("`{name}`")).collect();
    let more = names.len().saturating_sub(NAMED);
    let others = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{others}", listed.join(", "))
}

/// `1 problem`, `3 problems`.
pub(super) fn plural(count: usize, word: &str) -> String {
    if count == 1 { format!("1 {word}") } else { format!("{count} {word}s") }
}
