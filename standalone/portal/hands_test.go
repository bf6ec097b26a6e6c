package portal_test

import (
	"context"
	"fmt"

	"github.com/chromedp/cdproto/browser"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// keyboard is a reader who has no pointer.
type keyboard struct{ *tab }

// mostStops bounds how often Tab is pressed to get to something.
const mostStops = 150

// where is what has the focus: whether it is what a selector finds, and what is wrong with how it shows that.
type where struct {
	There bool
	Is    string
	Fault string
}

// reach presses Tab until the focus is at what a CSS selector finds. Each stop is seen: it is on the screen, with an outline.
func (k keyboard) reach(selector string) {
	k.t.Helper()
	k.Await(selector)
	for range mostStops {
		at := eval[where](k.tab, `((wanted) => {
			const at = document.activeElement, box = (at.matches(".go") ? at.closest("tr") : at).getBoundingClientRect();
			const style = getComputedStyle(at, at.matches(".go") ? "::after" : null);
			const fault = at === document.body ? ""
				: style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 2 ? "no outline"
				: box.width < 2 || box.height < 2 || box.bottom <= 0 || box.top >= innerHeight || box.right <= 0 || box.left >= innerWidth ? "off screen" : "";
			return { there: at === [...document.querySelectorAll(wanted)].find((one) => one.checkVisibility()), is: at.outerHTML.slice(0, 200), fault };
		})(`+quoted(selector)+`)`)
		require.Empty(k.t, at.Fault, "the focus at %s on %s", at.Is, k.Here())
		if at.There {
			return
		}
		k.Keys(kb.Tab)
	}
	k.t.Fatalf("Tab does not lead to %s on %s", selector, k.Here())
}

func (k keyboard) press(selector string) {
	k.t.Helper()
	k.reach(selector)
	k.Keys(" ")
}

// follow presses a thing's own key if it has one.
func (k keyboard) follow(selector string) {
	k.t.Helper()
	k.Await(selector)
	key := eval[string](k.tab, "document.querySelector("+quoted(selector)+").dataset.key ?? ''")
	if key == "" {
		k.reach(selector)
		key = kb.Enter
	}
	k.next(chromedp.KeyEvent(key))
}

func (k keyboard) write(selector, text string) {
	k.t.Helper()
	k.reach(selector)
	k.Keys(text)
	require.Equal(k.t, text, eval[string](k.tab, "document.querySelector("+quoted(selector)+").value"))
}

// finger is a reader with a phone.
type finger struct{ *tab }

// spot is where a thing is on the screen, and what is wrong with that for a finger.
type spot struct {
	X, Y  float64
	Fault string
}

// at scrolls to what a CSS selector finds, and says where a finger meets it.
func (f finger) at(selector string) spot {
	f.t.Helper()
	f.Await(selector)
	f.touchable()
	do(f.tab, chromedp.ScrollIntoView(chromedp.CSS(selector)))
	at := eval[spot](f.tab, `(() => {
		const one = [...document.querySelectorAll(`+quoted(selector)+`)].find((one) => one.checkVisibility());
		const box = one.getClientRects()[0], x = box.left + box.width / 2, y = box.top + box.height / 2;
		const hit = document.elementFromPoint(x, y);
		return { x, y, fault: one.contains(hit) ? "" : "a finger meets " + (hit?.outerHTML.slice(0, 200) ?? "nothing") };
	})()`)
	require.Empty(f.t, at.Fault, "%s on %s", selector, f.Here())
	return at
}

func tapAt(at spot) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchStart, TouchPoints: []*input.TouchPoint{{X: at.X, Y: at.Y}}})
		if err == nil {
			_, err = cdp.Call(ctx, t, input.DispatchTouchEvent, input.DispatchTouchEventParams{Type: input.DispatchTouchEventTypeTouchEnd, TouchPoints: []*input.TouchPoint{}})
		}
		return err
	})
}

func (f finger) press(selector string) {
	f.t.Helper()
	do(f.tab, tapAt(f.at(selector)))
}

func (f finger) follow(selector string) {
	f.t.Helper()
	f.next(tapAt(f.at(selector)))
}

func (f finger) write(selector, text string) {
	f.t.Helper()
	f.press(selector)
	f.Keys(text)
	require.Equal(f.t, text, eval[string](f.tab, "document.querySelector("+quoted(selector)+").value"))
}

// touchable holds the page to targets that a finger meets, of 44 px each way. Links within text are as high as it.
func (f finger) touchable() {
	f.t.Helper()
	small := eval[[]string](f.tab, `[...document.querySelectorAll("button, select, summary, input:not([type=hidden]), nav a, a.btn, a.go, .crumbs a, a.brand")].filter((one) => one.checkVisibility()).flatMap((one) => {
		const box = (one.matches("[type=checkbox], [type=radio]") ? one.closest("label") : one.matches(".go") ? one.closest("tr") : one).getBoundingClientRect();
		return box.width >= 43.9 && box.height >= 43.9 ? [] : [Math.round(box.width) + " x " + Math.round(box.height) + ": " + one.outerHTML.slice(0, 150)];
	})`)
	for _, one := range small {
		f.t.Errorf("too small for a finger on %s: %s", f.Here(), one)
	}
}

// next does what leads to another page, and waits for that.
func (b *tab) next(action chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_, err := chromedp.RunResponse(ctx, action)
	require.NoError(b.t, err, fmt.Sprintf("from %s", b.Here()))
}

// allowCopying is what browsers do where somebody copies and pastes by hand; without a window they must be told.
func (b *tab) allowCopying() {
	b.t.Helper()
	for _, name := range []string{"clipboard-read", "clipboard-write"} {
		call(b, browser.SetPermission, browser.SetPermissionParams{Permission: &browser.PermissionDescriptor{Name: name}, Setting: browser.PermissionSettingGranted, Origin: b.url})
	}
}
