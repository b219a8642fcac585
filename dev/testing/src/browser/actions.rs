//! What a visitor does with a page.

use std::path::Path;

use anyhow::{Context, Result, bail};
use chromiumoxide::cdp::browser_protocol::dom::SetFileInputFilesParams;

use super::element::{Element, Kind};
use super::page::Page;

impl Page {
    /// Presses a button or follows a link, by its accessible name or a CSS selector, and waits for the page that it
    /// leads to.
    pub async fn click(&self, name: &str) {
        self.act(
            &format!("click {name:?}"),
            Kind::Control,
            name,
            |element| async move { self.press_on(&element).await },
        )
        .await;
    }

    /// Writes into a field instead of what it contains, by its label or a CSS selector.
    pub async fn fill(&self, label: &str, text: &str) {
        self.act(&format!("fill {label:?}"), Kind::Field, label, |element| async move {
            self.fill_in(&element, text).await
        })
        .await;
    }

    /// Chooses an option of a select, or a radio button of a group.
    pub async fn choose(&self, label: &str, option: &str) {
        let doing = format!("choose {option:?} for {label:?}");
        let acted = self.patiently(|| async {
            if let Ok(group) = self.tab.find(&self.root, Kind::Group, label).await {
                let radio = self.tab.find_in(&group, Kind::Field, option).await?;
                return self.tab.act(self.press_on(&radio)).await;
            }
            let select = self.tab.find(&self.root, Kind::Field, label).await?;
            self.tab.act(self.select(&select, option)).await
        });
        let acted = acted.await;
        self.expect(&doing, acted).await;
    }

    /// Checks a checkbox, unless it is checked.
    pub async fn check(&self, label: &str) {
        self.set_checked(label, true).await;
    }

    /// Removes the check of a checkbox, if it is checked.
    pub async fn uncheck(&self, label: &str) {
        self.set_checked(label, false).await;
    }

    async fn set_checked(&self, label: &str, wanted: bool) {
        let change = |element: Element| async move {
            let checked = self.tab.call(&element, "function() { return this.checked }", &[]).await?;
            if checked == wanted { Ok(()) } else { self.press_on(&element).await }
        };
        self.act(&format!("set {label:?} to {wanted}"), Kind::Field, label, change).await;
    }

    /// Chooses a file in a field for files, by its label or a CSS selector.
    pub async fn attach(&self, label: &str, file: &Path) {
        let doing = format!("attach {} to {label:?}", file.display());
        let acted = self.patiently(|| async {
            let root = self.tab.object(&self.root).await?.context("this part of the page is not there")?;
            let input = self.tab.call_for_element(&root, FILES, &[label.into()]).await?;
            let input = input.context("there is no such field for files")?;
            let file = file.to_str().context("the path is not UTF-8")?.to_owned();
            let set = SetFileInputFilesParams::builder().file(file).object_id(input).build();
            self.tab.act(async { self.tab.run(set.map_err(anyhow::Error::msg)?).await.map(drop) }).await
        });
        let acted = acted.await;
        self.expect(&doing, acted).await;
    }

    /// Presses a key, such as `Tab`, `Enter`, `Escape`, `a` or `Shift+Tab`, where the focus is.
    pub async fn press(&self, key: &str) {
        let acted = self.tab.act(self.tab.press(key)).await;
        self.expect(&format!("press {key}"), acted).await;
    }

    /// Presses the first button that submits the form in which the focus is, or the first form of this part of the page.
    pub async fn submit(&self) {
        let find = format!(
            "(root => {{
                const form = document.activeElement?.form ?? root.closest('form') ?? root.querySelector('form');
                return form && [...form.elements].find(element => element.type === 'submit');
            }})({})",
            self.root
        );
        let acted = self.patiently(|| async {
            let button = self.tab.object(&find).await?.context("there is no form with a button that submits it")?;
            self.tab.act(self.press_on(&button)).await
        });
        let acted = acted.await;
        self.expect("submit", acted).await;
    }

    /// Follows a link or presses a button that leads to a file; returns the file's name and content.
    pub async fn download(&self, name: &str) -> (String, Vec<u8>) {
        let before = self.tab.record.state().downloads.len();
        self.click(name).await;
        let file = self.tab.next_download(before).await;
        self.expect(&format!("download {name:?}"), file).await
    }

    /// Uses an element by mouse or keyboard.
    async fn press_on(&self, element: &str) -> Result<()> {
        if !self.tab.look.keyboard {
            return self.tab.click(element).await;
        }
        self.tab.reach(element).await?;
        self.tab.activate(element).await
    }

    async fn fill_in(&self, element: &str, text: &str) -> Result<()> {
        // People write dates into parts that differ by language.
        const SET: &str = "function(text) {
            if (!['date', 'time', 'datetime-local', 'month', 'week', 'color', 'range'].includes(this.type)) return false;
            this.value = text;
            this.dispatchEvent(new Event('input', { bubbles: true }));
            this.dispatchEvent(new Event('change', { bubbles: true }));
            return true;
        }";
        if self.tab.look.keyboard {
            self.tab.reach(element).await?;
        } else {
            self.tab.click(element).await?;
        }
        if self.tab.call(element, SET, &[text.into()]).await? == true {
            return Ok(());
        }
        self.tab.press("Control+a").await?;
        if text.is_empty() { self.tab.press("Backspace").await } else { self.tab.write(text).await }
    }

    async fn select(&self, element: &str, option: &str) -> Result<()> {
        const CHOOSE: &str = "function(name) {
            const option = [...(this.options ?? [])].find(option => option.text.trim() === name || option.value === name);
            if (!option) return false;
            option.selected = true;
            this.dispatchEvent(new Event('input', { bubbles: true }));
            this.dispatchEvent(new Event('change', { bubbles: true }));
            return true;
        }";
        if self.tab.look.keyboard {
            self.tab.reach(element).await?;
            return self.tab.choose_by_arrows(element, option).await;
        }
        if self.tab.call(element, CHOOSE, &[option.into()]).await? != true {
            bail!("it has no option {option:?}");
        }
        Ok(())
    }

    /// Finds an element, acts on it, and waits for the page that this leads to.
    async fn act<F: Future<Output = Result<()>>>(
        &self,
        doing: &str,
        kind: Kind,
        name: &str,
        action: impl Fn(Element) -> F,
    ) {
        let acted = self.patiently(|| async {
            let element = self.tab.find(&self.root, kind, name).await?;
            self.tab.act(action(element)).await
        });
        let acted = acted.await;
        self.expect(doing, acted).await;
    }
}

/// Finds a field for files by its label or a selector.
const FILES: &str = "function(name) {
    const fields = [...this.querySelectorAll('input[type=file]')];
    const isNamed = field => field.ariaLabel === name || [...field.labels].some(label => label.innerText.trim() === name);
    return fields.find(isNamed) ?? fields.find(field => { try { return field.matches(name) } catch { return false } });
}";
