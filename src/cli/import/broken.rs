//! A file that cannot be read: where, and what was expected.

use annotate_snippets::{AnnotationKind, Group, Level, Renderer, Snippet, renderer::DecorStyle};

/// Why a file cannot be read, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Broken {
    /// In bytes.
    pub(super) at: usize,
    pub(super) says: String,
    /// What to do.
    pub(super) help: Option<String>,
}

impl Broken {
    pub(super) fn new(at: usize, says: impl Into<String>) -> Self {
        Self { at, says: says.into(), help: None }
    }

    pub(super) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// As a compiler tells it: file, line, column, the line itself and a caret.
    pub(super) fn render(&self, file: &str, text: &str, colour: bool) -> String {
        let mut at = self.at.min(text.len());
        while !text.is_char_boundary(at) {
            at -= 1;
        }
        let start = text[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = text[at..].find('\n').map_or(text.len(), |newline| at + newline);
        let number = text[..start].matches('\n').count() + 1;
        let line = text[start..end].trim_end_matches('\r');
        let from = (at - start).min(line.len());
        let to = line[from..].chars().next().map_or(from, |c| from + c.len_utf8());
        let snippet = Snippet::source(line)
            .line_start(number)
            .path(file)
            .annotation(AnnotationKind::Primary.span(from..to));
        let group = Group::with_title(Level::ERROR.primary_title(self.says.as_str())).element(snippet);
        let group = group.elements(self.help.iter().map(|help| Level::HELP.message(help.as_str())));
        let renderer = if colour { Renderer::styled() } else { Renderer::plain() };
        renderer.decor_style(DecorStyle::Ascii).render(&[group]).to_string()
    }
}
