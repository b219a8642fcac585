//! Output to the terminal.

use std::io::IsTerminal;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Standard output, shared by all tasks that print. Clones share the output.
#[derive(Debug, Clone)]
pub struct Console {
    bars: MultiProgress,
    coloured: bool,
}

impl Default for Console {
    fn default() -> Self {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { bars: MultiProgress::new(), coloured }
    }
}

impl Console {
    /// Prints a line, above the progress bar if there is one.
    pub fn line(&self, line: &str) {
        self.bars.suspend(|| println!("{line}"));
    }

    /// Prints a line of a process. `number` selects the color.
    pub fn line_of(&self, process: &str, number: usize, line: &str) {
        const COLOURS: [u8; 5] = [36, 32, 33, 35, 34];
        if self.coloured {
            let colour = COLOURS[number % COLOURS.len()];
            self.line(&format!("\x1b[{colour}m{process:<9}│\x1b[0m {line}"));
        } else {
            self.line(&format!("{process:<9}| {line}"));
        }
    }

    /// Shows a progress bar on a terminal, and only a line elsewhere.
    #[must_use]
    pub fn progress(&self, what: &str) -> ProgressBar {
        if !std::io::stderr().is_terminal() {
            self.line(&format!("{what} …"));
        }
        let bar = self.bars.add(ProgressBar::no_length());
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {human_pos}/{human_len} {elapsed}") {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        bar.enable_steady_tick(Duration::from_millis(100));
        bar
    }
}
