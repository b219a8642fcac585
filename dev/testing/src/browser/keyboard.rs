//! Keys, and reaching elements by them alone.

use anyhow::{Context, Result, bail};
use chromiumoxide::cdp::browser_protocol::input::{DispatchKeyEventParams, DispatchKeyEventType, InsertTextParams};
use chromiumoxide::keys::{KeyDefinition, USKEYBOARD_LAYOUT};
use serde_json::Value;

use super::tab::Tab;

/// The most elements of a page that can have the focus.
const STOPS: usize = 500;

/// The bits by which the protocol names modifiers.
const MODIFIERS: [(&str, i64); 4] = [("Alt", 1), ("Control", 2), ("Meta", 4), ("Shift", 8)];

impl Tab {
    /// Presses a key, such as `Tab`, `Enter`, `a` or `Shift+Tab`.
    pub async fn press(&self, keys: &str) -> Result<()> {
        let (mut modifiers, mut key) = (0, keys);
        while let Some((name, rest)) = key.split_once('+')
            && let Some((_, bit)) = MODIFIERS.iter().find(|(modifier, _)| *modifier == name)
        {
            (modifiers, key) = (modifiers | bit, rest);
        }
        let key = if key == "Space" { " " } else { key };
        let definition = USKEYBOARD_LAYOUT
            .iter()
            .find(|known| known.key == key)
            .with_context(|| format!("there is no key {key}"))?;
        self.dispatch(DispatchKeyEventType::KeyDown, definition, modifiers).await?;
        // The page may be replaced by then.
        let _ = self.dispatch(DispatchKeyEventType::KeyUp, definition, modifiers).await;
        Ok(())
    }

    async fn dispatch(&self, kind: DispatchKeyEventType, key: &KeyDefinition, modifiers: i64) -> Result<()> {
        let is_down = matches!(kind, DispatchKeyEventType::KeyDown);
        let mut event = DispatchKeyEventParams::builder()
            .r#type(kind)
            .key(key.key)
            .code(key.code)
            .windows_virtual_key_code(key.key_code)
            .modifiers(modifiers);
        // A key that writes a character; Enter does so, too, which submits a form.
        let text = key.text.or_else(|| (key.key.chars().count() == 1).then_some(key.key));
        if let (Some(text), true) = (text, is_down && modifiers & !8 == 0) {
            event = event.text(text).unmodified_text(text);
        }
        if modifiers == 2 && key.key == "a" && is_down {
            event = event.command("selectAll");
        }
        self.run(event.build().map_err(anyhow::Error::msg)?).await.map(drop)
    }

    /// Writes text where the focus is.
    pub async fn write(&self, text: &str) -> Result<()> {
        self.run(InsertTextParams::new(text)).await.map(drop)
    }

    /// Moves the focus to an element by Tab, and inside a group of radio buttons by arrows. People must see that it
    /// is there.
    pub async fn reach(&self, element: &str) -> Result<()> {
        for _ in 0..STOPS {
            match self.call(element, FOCUS, &[]).await?.as_str() {
                Some("here") if self.call(element, IS_MARKED, &[]).await? == true => return Ok(()),
                Some("here") => bail!("it has the focus, but nothing shows that"),
                Some("group") => self.press("ArrowDown").await?,
                _ => self.press("Tab").await?,
            }
        }
        bail!("it cannot be reached by Tab")
    }

    /// Chooses an option of a select that has the focus, by arrows.
    pub async fn choose_by_arrows(&self, select: &str, option: &str) -> Result<()> {
        const INDEX: &str = "function(name) {
            const at = [...this.options].findIndex(option => option.text.trim() === name || option.value === name);
            return [this.selectedIndex, at];
        }";
        for _ in 0..STOPS {
            let index = self.call(select, INDEX, &[option.into()]).await?;
            match (index[0].as_i64(), index[1].as_i64()) {
                (_, None | Some(-1)) => bail!("it has no option {option:?}"),
                (Some(at), Some(wanted)) if at == wanted => return Ok(()),
                (at, wanted) => self.press(if at < wanted { "ArrowDown" } else { "ArrowUp" }).await?,
            }
        }
        bail!("the option {option:?} cannot be reached by arrows")
    }

    /// The key by which a focused element is used.
    pub async fn activate(&self, element: &str) -> Result<()> {
        const KEY: &str = "function() {
            return ['checkbox', 'radio'].includes(this.type) ? (this.type == 'radio' && this.checked ? '' : 'Space') : 'Enter';
        }";
        match self.call(element, KEY, &[]).await? {
            Value::String(key) if !key.is_empty() => self.press(&key).await,
            _ => Ok(()),
        }
    }
}

/// Whether an element has the focus, or another radio button of its group.
const FOCUS: &str = "function() {
    const active = document.activeElement;
    if (active === this) return 'here';
    const isGroup = this.type === 'radio' && active?.type === 'radio' && active.name === this.name && active.form === this.form;
    return isGroup ? 'group' : 'elsewhere';
}";

/// Whether an outline or a shadow marks a focused element, or the label around it.
const IS_MARKED: &str = "function() {
    const label = this.closest('label');
    return [this, ...(label ? [label, ...label.children] : [])].some(part => {
        const style = getComputedStyle(part);
        return (style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== 'none';
    });
}";
