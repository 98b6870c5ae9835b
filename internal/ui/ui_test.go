package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

// screen returns a UI whose standard error is a terminal of the given width.
func screen(width int) (u *UI, out, err *bytes.Buffer) {
	out, err = new(bytes.Buffer), new(bytes.Buffer)
	u = New(out, err)
	u.err.width = width
	return u, out, err
}

// stalled returns a progress that is shown only when a test asks for it.
func stalled(u *UI, now *time.Time) *Progress {
	p := &Progress{u: u, now: func() time.Time { return *now }, stop: make(chan struct{}), stopped: make(chan struct{})}
	close(p.stopped)
	u.bar = p
	return p
}

func TestBar(t *testing.T) {
	u, _, err := screen(80)
	now := time.Unix(1000, 0)
	p := stalled(u, &now)
	p.Stage("sealing", 4<<30)
	p.show()
	if err.Len() > 0 {
		t.Fatalf("shown before it took a second: %q", err)
	}
	now = now.Add(4 * time.Second)
	p.Add(1 << 30)
	p.show()
	want := "\rsealing  25%  1.0 GiB of 4.0 GiB  256.0 MiB/s  12.0 s left  [####.............]\x1b[K"
	if got := err.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if w := len(strings.Trim(want, "\r")) - len("\x1b[K"); w > 79 {
		t.Errorf("%d columns wrap a terminal of 80", w)
	}
	err.Reset()
	u.Note("half way")
	if got := err.String(); got != "\r\x1b[Kneuroseal: half way\n" {
		t.Errorf("a message does not clear the bar first: %q", got)
	}
	p.show()
	err.Reset()
	p.Stop()
	p.Stop()
	if got := err.String(); got != "\r\x1b[K" {
		t.Errorf("stopping leaves %q", got)
	}
}

func TestNarrowTerminal(t *testing.T) {
	u, _, err := screen(20)
	now := time.Unix(1000, 0)
	p := stalled(u, &now)
	p.Stage("measuring activations", 1<<20)
	now = now.Add(2 * time.Second)
	p.show()
	line := strings.TrimSuffix(strings.TrimPrefix(err.String(), "\r"), "\x1b[K")
	if len(line) != 19 {
		t.Errorf("%q has %d columns", line, len(line))
	}
}

func TestPlainLines(t *testing.T) {
	u, _, err := screen(0)
	now := time.Unix(1000, 0)
	p := stalled(u, &now)
	for _, stage := range []string{"reading weights", "sealing"} {
		p.Stage(stage, 100<<20)
		for range 25 * 5 {
			now = now.Add(refresh)
			p.Add(1 << 18)
			p.show()
		}
	}
	p.Stop()
	lines := strings.Split(strings.TrimSpace(err.String()), "\n")
	if len(lines) != 6 { // after 1, 11 and 21 seconds of each
		t.Errorf("%d lines:\n%s", len(lines), err)
	}
	if strings.ContainsAny(err.String(), "\r\x1b") {
		t.Errorf("control characters: %q", err)
	}
	if want := "neuroseal: reading weights   1%  1.2 MiB of 100.0 MiB  1.2 MiB/s  1:19 min left"; lines[0] != want {
		t.Errorf("got  %q\nwant %q", lines[0], want)
	}
}

func TestUnknownTotal(t *testing.T) {
	u, _, err := screen(80)
	now := time.Unix(1000, 0)
	p := stalled(u, &now)
	p.Stage("running", 0)
	now = now.Add(2 * time.Second)
	p.Add(2 << 20)
	p.show()
	if got := err.String(); got != "\rrunning  2.0 MiB  1.0 MiB/s\x1b[K" {
		t.Errorf("%q", got)
	}
}

func TestJSONLines(t *testing.T) {
	u, out, err := screen(80)
	u.JSON = true
	now := time.Unix(1000, 0)
	p := stalled(u, &now)
	p.Stage("sealing", 10)
	p.Add(4)
	for range 10 {
		now = now.Add(refresh)
		p.show()
	}
	p.Add(6)
	p.Stop()
	u.Note("a <b> & \x1b[31m")
	u.Warn("careful")
	u.Error(13, "tensor x", "fetch it again")
	if e := u.Result(map[string]int{"n": 1}, "path", func(w io.Writer) { fmt.Fprint(w, "text") }); e != nil {
		t.Fatal(e)
	}
	var got []string
	for dec := json.NewDecoder(err); dec.More(); {
		var m map[string]any
		if e := dec.Decode(&m); e != nil {
			t.Fatal(e)
		}
		got = append(got, fmt.Sprint(m))
	}
	want := []string{
		"map[done:0 seconds:0 stage:sealing total:10 type:progress]",
		"map[done:4 seconds:1 stage:sealing total:10 type:progress]",
		"map[done:4 seconds:2 stage:sealing total:10 type:progress]",
		"map[done:10 seconds:2 stage:sealing total:10 type:progress]",
		"map[message:a <b> & \x1b[31m type:note]",
		"map[message:careful type:warning]",
		"map[code:13 hint:fetch it again message:tensor x type:error]",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if out.String() != "{\n  \"n\": 1\n}\n" {
		t.Errorf("stdout %q", out)
	}
}

func TestQuiet(t *testing.T) {
	u, out, err := screen(80)
	u.Quiet = true
	now := time.Unix(1000, 0)
	p := stalled(u, &now)
	p.Stage("sealing", 10)
	now = now.Add(time.Minute)
	p.show()
	u.Note("nothing")
	p.Stop()
	if err.Len() > 0 {
		t.Errorf("stderr %q", err)
	}
	_ = u.Result(nil, "path", nil)
	_ = u.Result(nil, "", nil)
	if out.String() != "path\n" {
		t.Errorf("stdout %q", out)
	}
	u.Warn("all the same")
	if err.String() != "neuroseal: warning: all the same\n" {
		t.Errorf("stderr %q", err)
	}
}

func TestTextIsClean(t *testing.T) {
	u, out, err := screen(0)
	u.Error(1, "tensor \x1b]0;gotcha\x07 is bad\nsecond line", "do \x1b[2J")
	_ = u.Result(nil, "", func(w io.Writer) { fmt.Fprintf(w, "%s \x1b[2J %s\t%s …\n", Yes, No, Open) })
	if strings.ContainsAny(err.String()+out.String(), "\x1b\x07") {
		t.Errorf("control characters: %q %q", err, out)
	}
	if strings.Count(err.String(), "\n") != 2 { // error and hint, whatever a name in them holds
		t.Errorf("lines: %q", err)
	}
	if out.String() != "ok \ufffd[2J FAIL\t- ...\n" {
		t.Errorf("stdout %q", out)
	}
	u.out.unicode, u.out.colour = true, true
	out.Reset()
	_ = u.Result(nil, "", func(w io.Writer) { fmt.Fprint(w, Yes, No, Open) })
	if out.String() != "\x1b[32m✓\x1b[0m\x1b[31m✗\x1b[0m·" {
		t.Errorf("stdout %q", out)
	}
}

func TestUTF8Locale(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want bool
	}{
		{nil, false},
		{map[string]string{"LANG": "en_GB.UTF-8"}, true},
		{map[string]string{"LANG": "de_DE.utf8"}, true},
		{map[string]string{"LANG": "C"}, false},
		{map[string]string{"LANG": "en_GB.UTF-8", "LC_ALL": "C"}, false},
		{map[string]string{"LC_CTYPE": "UTF-8", "LANG": "C"}, true},
	} {
		if got := utf8Locale(func(k string) string { return c.env[k] }); got != c.want {
			t.Errorf("%v: %v", c.env, got)
		}
	}
}

func TestFormats(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 1023: "1023 B", 1024: "1.0 KiB", 1536 << 10: "1.5 MiB", 1 << 62: "4096.0 PiB"} {
		if got := Bytes(n); got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
	for d, want := range map[time.Duration]string{
		1500 * time.Microsecond: "1.5 ms", 2 * time.Second: "2.0 s", 61 * time.Second: "1:01 min", 3*time.Hour + 5*time.Minute: "3:05 h",
	} {
		if got := Duration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
	var b strings.Builder
	Table(&b, "  ", [][]string{{"a", "b"}, {"long", "c"}})
	if b.String() != "  a     b\n  long  c\n" {
		t.Errorf("%q", b.String())
	}
}

// TestConcurrent is for the race detector: all of it at once.
func TestConcurrent(t *testing.T) {
	u, _, _ := screen(80)
	p := u.Progress()
	done := make(chan bool)
	for i := range 4 {
		go func() {
			for range 100 {
				p.Add(1)
				p.show()
				if i == 0 {
					p.Stage("stage", 100)
				}
				u.Note("note")
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
	p.Stop()
}
