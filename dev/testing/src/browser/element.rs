//! Finding elements as people do, by their accessible names, and acting on them.

use anyhow::{Context, Result, bail};
use chromiumoxide::cdp::browser_protocol::accessibility::QueryAxTreeParams;
use chromiumoxide::cdp::browser_protocol::dom::{BackendNodeId, ResolveNodeParams};
use chromiumoxide::cdp::browser_protocol::input::{DispatchMouseEventParams, DispatchMouseEventType, MouseButton};

use super::tab::Tab;

/// What an element is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    /// Something that is pressed.
    Control,
    /// Something that has a value.
    Field,
    /// Radio buttons or fields with a common name.
    Group,
}

impl Kind {
    /// The accessible roles, as Chromium names them.
    fn roles(self) -> &'static [&'static str] {
        match self {
            Self::Control => &[
                "button",
                "link",
                "menuitem",
                "tab",
                "checkbox",
                "radio",
                "switch",
                "option",
                "treeitem",
                "DisclosureTriangle",
            ],
            Self::Field => &[
                "textbox",
                "searchbox",
                "spinbutton",
                "combobox",
                "listbox",
                "slider",
                "checkbox",
                "radio",
                "switch",
                "Date",
                "DateTime",
                "InputTime",
                "ColorWell",
            ],
            Self::Group => &["group", "radiogroup"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Control => "button or link",
            Self::Field => "field",
            Self::Group => "group",
        }
    }
}

/// An element of the present document, by the id of its object.
pub(super) type Element = String;

impl Tab {
    /// The only element of a kind with a name, inside the element that the expression `root` returns: one with
    /// exactly this name, or else one whose name begins so, or else the one that a CSS selector finds.
    pub async fn find(&self, root: &str, kind: Kind, name: &str) -> Result<Element> {
        let root = self.object(root).await?.with_context(|| format!("{root} is not there"))?;
        self.find_in(&root, kind, name).await
    }

    /// As [`Self::find`], inside an element.
    pub async fn find_in(&self, root: &str, kind: Kind, name: &str) -> Result<Element> {
        let (exact, begun) = self.named(root, kind, name).await?;
        for found in [exact, begun] {
            match &found[..] {
                [] => {}
                [one] => return self.resolve(*one).await,
                many => {
                    return self.same_link(many).await?.with_context(|| {
                        format!("{} elements are named {name:?}: narrow it with `within` or `row`", many.len())
                    });
                }
            }
        }
        // An invalid selector is a name.
        const SELECT: &str = "function(css) { try { return !!this.querySelector(css) } catch { return false } }";
        if self.call(root, SELECT, &[name.into()]).await? == true {
            return self.select(root, name).await;
        }
        bail!("no {} is named {name:?}", kind.name())
    }

    /// The nodes of a kind with a name, and those whose name begins so.
    async fn named(&self, root: &str, kind: Kind, name: &str) -> Result<(Vec<i64>, Vec<i64>)> {
        let tree = self.run(QueryAxTreeParams::builder().object_id(root.to_owned()).build()).await?;
        let (mut exact, mut begun) = (Vec::new(), Vec::new());
        for node in tree["nodes"].as_array().into_iter().flatten() {
            let role = node["role"]["value"].as_str().unwrap_or_default();
            let named = node["name"]["value"].as_str().unwrap_or_default();
            let Some(id) = node["backendDOMNodeId"].as_i64() else { continue };
            if node["ignored"] == true || !kind.roles().contains(&role) {
                continue;
            }
            if named == name {
                exact.push(id);
            } else if named.starts_with(name) {
                begun.push(id);
            }
        }
        Ok((exact, begun))
    }

    async fn resolve(&self, node: i64) -> Result<Element> {
        let resolved = self.run(ResolveNodeParams::builder().backend_node_id(BackendNodeId::new(node)).build()).await?;
        resolved["object"]["objectId"].as_str().map(str::to_owned).context("the element is gone")
    }

    /// The first of links that all lead to the same place.
    async fn same_link(&self, nodes: &[i64]) -> Result<Option<Element>> {
        let mut links = Vec::new();
        for node in nodes {
            let element = self.resolve(*node).await?;
            let target = self.call(&element, "function() { return this.href ?? null }", &[]).await?;
            links.push((target, element));
        }
        let is_one = links.iter().all(|(target, _)| target.is_string() && *target == links[0].0);
        Ok(if is_one { links.into_iter().next().map(|(_, element)| element) } else { None })
    }

    /// The first element that matches a selector.
    async fn select(&self, root: &str, css: &str) -> Result<Element> {
        let find = "function(css) { return this.querySelector(css) }";
        self.call_for_element(root, find, &[css.into()]).await?.with_context(|| format!("{css} is not there"))
    }

    /// Clicks an element with the mouse, where a person would.
    pub async fn click(&self, element: &str) -> Result<()> {
        let (x, y) = self.place(element).await?;
        let event = |kind, button, presses| {
            let event = DispatchMouseEventParams::builder().r#type(kind).x(x).y(y).button(button).click_count(presses);
            event.build().map_err(anyhow::Error::msg)
        };
        self.run(event(DispatchMouseEventType::MouseMoved, MouseButton::None, 0)?).await?;
        self.run(event(DispatchMouseEventType::MousePressed, MouseButton::Left, 1)?).await?;
        // The page may be replaced before it responds. An error would repeat the click.
        let _ = self.run(event(DispatchMouseEventType::MouseReleased, MouseButton::Left, 1)?).await;
        Ok(())
    }

    /// Where to click an element, which is scrolled into view.
    async fn place(&self, element: &str) -> Result<(f64, f64)> {
        let place = self.call(element, PLACE, &[]).await?;
        match (place[0].as_f64(), place[1].as_f64()) {
            (Some(x), Some(y)) => Ok((x, y)),
            _ => bail!("it cannot be clicked: {}", place.as_str().unwrap_or_default()),
        }
    }
}

/// Returns the middle of an element or of its label, or why it cannot be clicked.
const PLACE: &str = "function() {
    if (!this.isConnected) return 'it is gone';
    if (this.matches(':disabled, [aria-disabled=true]')) return 'it is disabled';
    let reason = 'it is not visible';
    for (const target of [this, ...(this.labels ?? [])]) {
        target.scrollIntoView({ block: 'center', inline: 'nearest', behavior: 'instant' });
        for (const box of target.getClientRects()) {
            if (box.width < 2 || box.height < 2) continue;
            const [x, y] = [box.x + box.width / 2, box.y + box.height / 2];
            const hit = document.elementFromPoint(x, y);
            if (hit && (target.contains(hit) || this.contains(hit) || hit.closest('label')?.control === this)) return [x, y];
            reason = `it is covered by ${hit?.outerHTML.slice(0, 120)}`;
        }
    }
    return reason;
}";
