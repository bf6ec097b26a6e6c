package portal_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/audits"
	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

	"github.com/mathub/webhooks/standalone/testkit"
)

func TestMain(m *testing.M) { testkit.Main(m) }

// patience bounds each thing that a test does in the browser.
const patience = 3 * time.Minute

// tab is a browser of its own: no other tab has its cookies. What the browser finds wrong with a page, such as a violation
// of its Content-Security-Policy, fails the test at its end.
type tab struct {
	t   testing.TB
	ctx context.Context
	url string // the product's

	mu     sync.Mutex
	faults []string
}

// tabOptions change how a tab is.
type tabOptions struct {
	NoScript bool
	Touch    bool // a phone's screen, which is touched
}

// newTab starts a browser. The test's end ends it.
func newTab(t testing.TB, url string, o tabOptions) *tab {
	t.Helper()
	flags := []chromedp.ExecAllocatorOption{
		chromedp.ExecPath(testkit.Tool(t, "chromium")), chromedp.UserDataDir(t.TempDir()),
		chromedp.Headless, chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true), chromedp.Flag("disable-dev-shm-usage", true),
	}
	allocator, endBrowser := chromedp.NewExecAllocator(context.Background(), flags...)
	ctx, endTab := chromedp.NewContext(allocator)
	b := &tab{t: t, ctx: ctx, url: url}
	t.Cleanup(func() {
		_ = chromedp.Cancel(ctx) // closes the browser, and waits for it
		endTab()
		endBrowser()
		b.mu.Lock()
		defer b.mu.Unlock()
		for _, fault := range b.faults {
			t.Errorf("the browser finds fault: %s", fault)
		}
	})
	require.NoError(t, chromedp.Listen(ctx, b.listen))
	call(b, log.Enable, cdp.Empty{})
	call(b, audits.Enable, cdp.Empty{})
	call(b, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: o.NoScript})
	if o.Touch {
		call(b, emulation.SetTouchEmulationEnabled, emulation.SetTouchEmulationEnabledParams{Enabled: true})
		b.Size(390)
	} else {
		b.Size(1280)
	}
	return b
}

// listen gathers what is wrong. A status that a test asks for is not.
func (b *tab) listen(event any) {
	fault := ""
	switch e := event.(type) {
	case *audits.EventIssueAdded:
		if e.Issue.Code == audits.InspectorIssueCodeContentSecurityPolicyIssue {
			details, _ := json.Marshal(e.Issue.Details.ContentSecurityPolicyIssueDetails)
			fault = "Content-Security-Policy: " + string(details)
		}
	case *log.EventEntryAdded:
		if e.Entry.Level == log.EntryLevelError && e.Entry.Source != log.EntrySourceNetwork {
			fault = e.Entry.Text
		}
	case *runtime.EventExceptionThrown:
		details, _ := json.Marshal(e.ExceptionDetails)
		fault = string(details)
	}
	if fault != "" {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.faults = append(b.faults, fault)
	}
}

// call sends a command of the browser's protocol.
func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	return do(b, func(ctx context.Context, _ *chromedp.Target) (R, error) { return chromedp.Call(ctx, command, params) })
}

// do runs an action within patience.
func do[T any](b *tab, action chromedp.Action[T]) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	result, err := chromedp.Run(ctx, action)
	if errors.Is(err, context.DeadlineExceeded) {
		ctx, cancel := context.WithTimeout(b.ctx, time.Second)
		defer cancel()
		at, _ := chromedp.Run(ctx, chromedp.Location()) // for the message only
		text, _ := chromedp.Run(ctx, chromedp.Text(chromedp.CSS("body")))
		err = fmt.Errorf("%w; the page %s shows:\n%s", err, at, text)
	}
	require.NoError(b.t, err)
	return result
}

// Go opens a path and waits until it is loaded.
func (b *tab) Go(path string) {
	b.t.Helper()
	do(b, chromedp.Navigate(b.url+path))
}

// Click clicks what a CSS selector finds and waits until its page, or the next, is loaded.
func (b *tab) Click(selector string) {
	b.t.Helper()
	do(b, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// Submit clicks what leads to another page, and waits for that.
func (b *tab) Submit(selector string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	_, err := chromedp.RunResponse(ctx, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
	require.NoError(b.t, err, selector)
}

// Fill types into a field, in place of what stands there.
func (b *tab) Fill(selector, text string) {
	b.t.Helper()
	do(b, chromedp.Steps(chromedp.Clear(chromedp.CSS(selector)), chromedp.SendKeys(chromedp.CSS(selector), text)))
}

// Keys presses keys, wherever the focus is.
func (b *tab) Keys(keys string) {
	b.t.Helper()
	do(b, chromedp.KeyEvent(keys))
}

// Await waits until a CSS selector finds something visible.
func (b *tab) Await(selector string) {
	b.t.Helper()
	do(b, chromedp.WaitVisible(chromedp.CSS(selector)))
}

// AwaitText waits until the page shows a text.
func (b *tab) AwaitText(text string) {
	b.t.Helper()
	var shown string
	for until := time.Now().Add(patience); time.Now().Before(until); time.Sleep(50 * time.Millisecond) { // the page is asked again
		ctx, cancel := context.WithTimeout(b.ctx, patience)
		shown, _ = chromedp.Run(ctx, chromedp.TextContent(chromedp.CSS("body"))) // fails between two pages
		cancel()
		if strings.Contains(shown, text) {
			return
		}
	}
	require.Contains(b.t, shown, text, b.Here())
}

// Text is what is shown of what a CSS selector finds.
func (b *tab) Text(selector string) string {
	b.t.Helper()
	return do(b, chromedp.Text(chromedp.CSS(selector)))
}

// Has says whether a CSS selector finds anything.
func (b *tab) Has(selector string) bool {
	b.t.Helper()
	return eval[bool](b, "document.querySelector("+quoted(selector)+") !== null")
}

// eval is the value of a JavaScript expression on the page, awaited if it is a promise.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	return do(b, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// Here is the page's path, query and fragment.
func (b *tab) Here() string {
	b.t.Helper()
	return strings.TrimPrefix(do(b, chromedp.Location()), b.url)
}

// Size makes the window as wide as a phone, 360 or 390, or a screen, 1280.
func (b *tab) Size(width int64) {
	b.t.Helper()
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 800, DeviceScaleFactor: 1, Mobile: width < 640})
}

// Scheme is what the reader's system prefers: light or dark.
func (b *tab) Scheme(scheme string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"}, // so that no colour is on its way
	}})
}

func quoted(text string) string {
	raw, _ := json.Marshal(text) // a string always encodes
	return string(raw)
}

// axe is axe-core's source, which tests are allowed to run although pages allow no script but theirs.
var axe = sync.OnceValues(func() (string, error) {
	source, err := os.ReadFile("testdata/node_modules/axe-core/axe.min.js")
	if err != nil {
		err = fmt.Errorf("axe-core is not there for the tests: run make test-deps: %w", err)
	}
	return string(source), err
})

// violation is what axe-core finds.
type violation struct {
	ID, Help string
	Nodes    []struct{ HTML, FailureSummary string }
}

// Check holds the page to what is promised of every page: axe-core finds nothing in light and in dark, and nothing is
// scrolled sideways from 360 px on. With MATHUB_SHOTS, it keeps pictures in that folder under name.
func (b *tab) Check(name string) {
	b.t.Helper()
	for scheme, rules := range map[string]string{"light": "", "dark": ofColours} {
		b.Scheme(scheme)
		b.accessible(name+", "+scheme, rules)
		for _, width := range []int64{1280, 1024, 768, 640, 390, 360} {
			b.Size(width)
			b.fits(width, fmt.Sprintf("%s, %s, %d px", name, scheme, width))
			b.shoot(fmt.Sprintf("%s-%s-%d", name, scheme, width))
			if width == 390 {
				b.accessible(fmt.Sprintf("%s, %s, %d px", name, scheme, width), rules)
			}
		}
		b.Size(1280)
	}
	b.Scheme("light")
}

// ofColours are axe-core's rules about colours, which alone find something else in dark than in light.
const ofColours = `, runOnly: ["cat.color"]`

func (b *tab) accessible(what, rules string) {
	b.t.Helper()
	if !eval[bool](b, `"axe" in window`) {
		source, err := axe()
		require.NoError(b.t, err)
		do(b, chromedp.Evaluate[any](source+";null"))
	}
	found := eval[[]violation](b, `axe.run(document, {resultTypes: ["violations"]`+rules+`}).then(r => r.violations.map(v => ({id: v.id, help: v.help, nodes: v.nodes.map(n => ({html: n.html, failureSummary: n.failureSummary}))})))`)
	for _, v := range found {
		for _, n := range v.Nodes {
			b.t.Errorf("%s: axe-core finds %s: %s\n%.300s\n%s", what, v.ID, v.Help, n.HTML, n.FailureSummary)
		}
	}
}

// fits looks at the width that Size has set: innerWidth on a phone is that of what is too wide.
func (b *tab) fits(width int64, what string) {
	b.t.Helper()
	wide := eval[[]string](b, `(width => document.documentElement.scrollWidth <= width ? [] : [...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > width + 1 && !e.closest("pre, .hidden, .skip")).slice(0, 5).map(e => e.outerHTML.slice(0, 200)).concat("scrollWidth " + document.documentElement.scrollWidth)`+fmt.Sprintf(")(%d)", width))
	require.Empty(b.t, wide, "%s is scrolled sideways", what)
}

func (b *tab) shoot(name string) {
	folder := os.Getenv("MATHUB_SHOTS")
	if folder == "" {
		return
	}
	b.t.Helper()
	picture := do(b, chromedp.FullScreenshot(100))
	require.NoError(b.t, os.MkdirAll(folder, 0o750))
	name = strings.Map(func(r rune) rune {
		if strings.ContainsRune("/ ?&={}", r) {
			return '_'
		}
		return r
	}, name)
	require.NoError(b.t, os.WriteFile(filepath.Join(folder, name+".png"), picture, 0o600))
}
