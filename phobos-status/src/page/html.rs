//! HTML that is being written: whatever is text in it is escaped.

use std::fmt::Write;

/// The text of a page.
#[derive(Debug, Default)]
pub(crate) struct Html(String);

impl Html {
    /// Adds markup, which is the program's own and never from outside.
    pub(crate) fn raw(&mut self, markup: &str) -> &mut Self {
        self.0.push_str(markup);
        self
    }

    /// Adds text.
    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.0.push_str("&amp;"),
                '<' => self.0.push_str("&lt;"),
                '>' => self.0.push_str("&gt;"),
                '"' => self.0.push_str("&quot;"),
                '\'' => self.0.push_str("&#39;"),
                // Whoever made the text has cleaned it; this holds all the same.
                c if c.is_control() => self.0.push('\u{fffd}'),
                c => self.0.push(c),
            }
        }
        self
    }

    /// Adds text in which commands stand between backticks.
    pub(crate) fn with_commands(&mut self, text: &str) -> &mut Self {
        let mut rest = text;
        while let Some((before, (command, after))) =
            rest.split_once('`').and_then(|(before, rest)| Some((before, rest.split_once('`')?)))
        {
            self.text(before).element("code", "", command);
            rest = after;
        }
        self.text(rest)
    }

    /// Adds a number.
    pub(crate) fn number(&mut self, number: i64) -> &mut Self {
        // Writing to a string cannot fail.
        if write!(self.0, "{number}").is_err() {
            log::debug!("cannot write a number");
        }
        self
    }

    /// Adds an element of this class with nothing but text in it.
    pub(crate) fn element(&mut self, name: &str, class: &str, text: &str) -> &mut Self {
        self.raw("<").raw(name);
        if !class.is_empty() {
            self.raw(" class=\"").raw(class).raw("\"");
        }
        self.raw(">").text(text).raw("</").raw(name).raw(">")
    }

    /// All that was written.
    pub(crate) fn finish(self) -> String {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_no_markup() {
        let mut html = Html::default();
        html.element("p", "x", "<script>alert('1')</script>&\"\u{1b}").number(-3);
        let want = "<p class=\"x\">&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;\u{fffd}</p>-3";
        assert_eq!(html.finish(), want);
    }

    #[test]
    fn commands_stand_out_and_are_escaped() {
        let drawn = |text: &str| {
            let mut html = Html::default();
            html.with_commands(text);
            html.finish()
        };
        assert_eq!(drawn("`a <b>` tries `c`."), "<code>a &lt;b&gt;</code> tries <code>c</code>.");
        assert_eq!(drawn("one ` and <i>"), "one ` and &lt;i&gt;");
        assert_eq!(drawn("`a` `"), "<code>a</code> `");
    }
}
