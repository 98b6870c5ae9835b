//go:build interop

package report

import (
	"bufio"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"
)

// findChromium is $CHROMIUM, or what the path holds.
func findChromium(t *testing.T) string {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Chromium is driven through file descriptors 3 and 4, which Windows has not")
	}
	if path := os.Getenv("CHROMIUM"); path != "" {
		return path
	}
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Skip("no Chromium: set CHROMIUM to its path, or install the package chromium")
	return ""
}

// browser speaks the DevTools protocol over two pipes: messages end with a zero
// byte. One page is enough.
type browser struct {
	t       *testing.T
	out     io.Writer
	in      *bufio.Reader
	id      int
	session string
	events  []event
}

type event struct {
	ID     int             `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func openBrowser(t *testing.T) *browser {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	cmd := exec.CommandContext(ctx, findChromium(t), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
		"--hide-scrollbars", "--no-first-run", "--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	childIn, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	out, childOut, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{childIn, childOut} // file descriptors 3 and 4
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	childIn.Close()
	childOut.Close()
	b := &browser{t: t, out: in, in: bufio.NewReader(out)}
	t.Cleanup(func() {
		_ = b.send("", "Browser.close", nil)
		in.Close()
		waited := make(chan struct{})
		go func() { _ = cmd.Wait(); close(waited) }()
		select {
		case <-waited:
		case <-time.After(10 * time.Second):
		}
		cancel()
		<-waited
		out.Close()
	})
	b.attach()
	return b
}

func (b *browser) attach() {
	b.t.Helper()
	var target struct{ TargetID string }
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	var got struct{ SessionID string }
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &got)
	b.session = got.SessionID
	for _, domain := range []string{"Page", "Runtime", "Log", "Network"} {
		b.call(domain+".enable", nil, nil)
	}
}

func (b *browser) send(session, method string, params any) error {
	b.id++
	msg := map[string]any{"id": b.id, "method": method}
	if params != nil {
		msg["params"] = params
	}
	if session != "" {
		msg["sessionId"] = session
	}
	raw, err := json.Marshal(msg)
	if err != nil {
		return err
	}
	_, err = b.out.Write(append(raw, 0))
	return err
}

func (b *browser) next() event {
	b.t.Helper()
	raw, err := b.in.ReadBytes(0)
	if err != nil {
		b.t.Fatalf("Chromium went away: %v", err)
	}
	var e event
	if err := json.Unmarshal(raw[:len(raw)-1], &e); err != nil {
		b.t.Fatal(err)
	}
	return e
}

func (b *browser) call(method string, params, result any) {
	b.t.Helper()
	if err := b.send(b.session, method, params); err != nil {
		b.t.Fatal(err)
	}
	for want := b.id; ; {
		e := b.next()
		if e.ID != want {
			b.events = append(b.events, e)
			continue
		}
		if e.Error != nil {
			b.t.Fatalf("%s: %s", method, e.Error.Message)
		}
		if result != nil {
			if err := json.Unmarshal(e.Result, result); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// open loads a page at a size and waits until it is drawn.
func (b *browser) open(path string, width, height int, dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme", "value": scheme}}}, nil)
	b.events = nil
	b.call("Page.navigate", map[string]any{"url": (&url.URL{Scheme: "file", Path: path}).String()}, nil)
	b.eval(`new Promise(ok => { const go = () => requestAnimationFrame(() => requestAnimationFrame(ok)); document.readyState === 'complete' ? go() : addEventListener('load', go) })`, nil)
}

// eval evaluates an expression in the page.
func (b *browser) eval(js string, result any) {
	b.t.Helper()
	var out struct {
		Result struct{ Value json.RawMessage }
		Except *struct {
			Text      string
			Exception struct{ Description string }
		} `json:"exceptionDetails"`
	}
	b.call("Runtime.evaluate", map[string]any{"expression": js, "awaitPromise": true, "returnByValue": true}, &out)
	if out.Except != nil {
		b.t.Fatalf("%s: %s %s", js, out.Except.Text, out.Except.Exception.Description)
	}
	if result != nil {
		if err := json.Unmarshal(out.Result.Value, result); err != nil {
			b.t.Fatalf("%s: %v in %s", js, err, out.Result.Value)
		}
	}
}

// complaints are errors on the console and requests to anything but the page.
func (b *browser) complaints(path string) error {
	var all []error
	for _, e := range b.events {
		switch e.Method {
		case "Runtime.exceptionThrown", "Log.entryAdded", "Runtime.consoleAPICalled":
			all = append(all, fmt.Errorf("console: %s", e.Params))
		case "Network.requestWillBeSent":
			if !strings.Contains(string(e.Params), "file://"+path) {
				all = append(all, fmt.Errorf("request: %s", e.Params))
			}
		}
	}
	return errors.Join(all...)
}

func (b *browser) data(method string, params any) []byte {
	b.t.Helper()
	var got struct{ Data string }
	b.call(method, params, &got)
	raw, err := base64.StdEncoding.DecodeString(got.Data)
	if err != nil {
		b.t.Fatal(err)
	}
	return raw
}

// keep writes what a person should look at below $REPORT_SHOTS, if it is set.
func keep(t *testing.T, name string, raw []byte) {
	t.Helper()
	if dir := os.Getenv("REPORT_SHOTS"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name), raw, 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func (b *browser) shot(name string, whole bool) {
	b.t.Helper()
	if os.Getenv("REPORT_SHOTS") != "" {
		keep(b.t, name, b.data("Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": whole}))
	}
}

func pageFile(t *testing.T, in []Input) string {
	t.Helper()
	var page bytes.Buffer
	if err := HTML(&page, in); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "report.html")
	if err := os.WriteFile(path, page.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestInChromium looks at the page as a reader does.
func TestInChromium(t *testing.T) {
	b := openBrowser(t)
	pages := map[string]string{"one": pageFile(t, one()), "several": pageFile(t, several()), "many": pageFile(t, many(60)), "hostile": pageFile(t, hostile())}
	sizes := []struct {
		name          string
		width, height int
		dark          bool
	}{{"phone", 390, 844, false}, {"tablet", 820, 1180, true}, {"desktop", 1366, 900, false}, {"desktop-dark", 1366, 900, true}}
	for name, path := range pages {
		for _, s := range sizes {
			b.open(path, s.width, s.height, s.dark)
			b.shot(name+"-"+s.name+".png", true)
			b.judge(name+" at "+s.name, path, s.width)
		}
	}
	b.open(pages["one"], 390, 844, false)
	b.shot("first-phone.png", false)
	b.sorts()
	b.open(pages["one"], 1366, 900, false)
	b.shot("first-desktop.png", false)
	b.sorts()
	b.keys()
	for name, path := range pages {
		b.open(path, 1366, 900, true)
		pdf := b.data("Page.printToPDF", map[string]any{"printBackground": true, "preferCSSPageSize": true})
		if !bytes.HasPrefix(pdf, []byte("%PDF-")) || len(pdf) < 20_000 {
			t.Errorf("%s: printing gave %d bytes", name, len(pdf))
		}
		keep(t, name+".pdf", pdf)
	}
}

func (b *browser) judge(name, path string, width int) {
	b.t.Helper()
	var got struct {
		Scroll               int
		Wide                 []string
		Curves, Dots, Labels int
		Hidden               bool
		Small                []string
	}
	b.eval(`(() => {
		const w = document.documentElement.clientWidth, q = s => [...document.querySelectorAll(s)];
		const inScroll = e => e.closest('.scroll, .skip, .quiet, #tip, .symbols');
		return {scroll: document.documentElement.scrollWidth,
			wide: q('body *').filter(e => !inScroll(e) && e.getBoundingClientRect().right > w + 1 && !e.closest('svg')).slice(0, 5).map(e => e.outerHTML.slice(0, 120)),
			curves: q('.chart path.held-out').filter(p => p.getTotalLength() > 20).length,
			dots: q('.sweep .dot').length, labels: q('.chart text').length,
			hidden: q('.curves').some(e => e.hidden),
			small: q('button, select, summary').filter(e => e.getClientRects().length && e.getBoundingClientRect().height < 22).slice(0, 5).map(e => e.outerHTML.slice(0, 100))};
	})()`, &got)
	if got.Scroll > width || len(got.Wide) > 0 {
		b.t.Errorf("%s: wider than the window: %d px of %d; %q", name, got.Scroll, width, got.Wide)
	}
	if got.Curves < 2 || got.Dots < 50 || got.Labels < 8 || got.Hidden {
		b.t.Errorf("%s: not drawn: %+v", name, got)
	}
	if len(got.Small) > 0 {
		b.t.Errorf("%s: too small to touch: %q", name, got.Small)
	}
	if err := b.complaints(path); err != nil {
		b.t.Errorf("%s: %v", name, err)
	}
}

// sorts clicks a column's head and looks at the order.
func (b *browser) sorts() {
	b.t.Helper()
	var got struct {
		Before, Up, Down, Back []string
		Aria                   string
	}
	b.eval(`(() => {
		const t = document.querySelector('table.recipes'), i = [...t.tHead.rows[0].cells].findIndex(c => c.textContent === 'Sealed');
		const h = t.tHead.rows[0].cells[i].firstElementChild, read = () => [...t.tBodies[0].rows].map(r => r.cells[i].dataset.v);
		const out = {before: read()};
		h.click(); out.up = read(); out.aria = t.tHead.rows[0].cells[i].getAttribute('aria-sort');
		h.click(); out.down = read();
		h.click(); out.back = read();
		return out;
	})()`, &got)
	ordered := func(list []string, sign float64) bool {
		last, blank := -1e9, false
		for _, s := range list {
			if s == "" {
				blank = true
				continue
			}
			var x float64
			if _, err := fmt.Sscan(s, &x); err != nil || blank || sign*x < last {
				return false
			}
			last = sign * x
		}
		return true
	}
	if len(got.Up) < 25 || !ordered(got.Up, 1) || !ordered(got.Down, -1) || got.Aria != "ascending" || fmt.Sprint(got.Back) != fmt.Sprint(got.Before) {
		b.t.Errorf("sorting by loss: %+v", got)
	}
}

// keys reads values and changes the recipe without a mouse.
func (b *browser) keys() {
	b.t.Helper()
	var got struct{ First, Read, Next, About string }
	b.eval(`(() => {
		const c = document.querySelector('.chart'), s = document.querySelector('.pick select'), r = document.querySelector('.readout');
		const out = {first: s.value};
		c.dispatchEvent(new KeyboardEvent('keydown', {key: 'End', bubbles: true, cancelable: true}));
		out.read = r.textContent;
		document.querySelector('.step[data-step="1"]').click();
		out.next = s.value; out.about = document.querySelector('.about').textContent;
		return out;
	})()`, &got)
	if !strings.Contains(got.Read, "step 150") || !strings.Contains(got.Read, "sealed") || got.First == got.Next || got.About == "" {
		b.t.Errorf("keyboard: %+v", got)
	}
}
