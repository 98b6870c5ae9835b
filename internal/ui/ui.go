// Package ui is how the command talks: data on standard output; messages,
// errors and progress on standard error; each for people or, as JSON, for
// programs.
package ui

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"golang.org/x/term"
)

// UI is where one run of the command writes. Its methods may be called from
// several goroutines at once.
type UI struct {
	JSON  bool // results, messages and errors as JSON
	Quiet bool // no messages, no progress; of results only the path

	out, err terminal

	mu  sync.Mutex // guards both streams and bar
	bar *Progress  // drawn on standard error right now
}

// New returns a UI on two streams. What they can show, a terminal or not,
// Unicode or not, colour or not, is found out from them and the environment.
func New(stdout, stderr io.Writer) *UI {
	return &UI{out: inspect(stdout, os.Getenv), err: inspect(stderr, os.Getenv)}
}

// Silent returns a UI for an operation that is part of a larger one: it shows
// warnings, and neither results nor notes nor progress.
func (u *UI) Silent() *UI {
	return &UI{JSON: u.JSON, Quiet: true, out: terminal{w: io.Discard}, err: u.err}
}

// terminal is a stream and what it can show.
type terminal struct {
	w       io.Writer
	width   int  // columns; 0: no terminal
	unicode bool // a terminal whose locale says UTF-8
	colour  bool
}

// inspect finds out what a stream can show.
func inspect(w io.Writer, env func(string) string) terminal {
	t := terminal{w: w}
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) || env("TERM") == "dumb" {
		return t
	}
	t.width = 80
	if cols, _, err := term.GetSize(int(f.Fd())); err == nil && cols > 0 {
		t.width = cols
	}
	t.unicode = utf8Locale(env)
	t.colour = env("NO_COLOR") == ""
	return t
}

// utf8Locale reads the variables in their order of precedence.
func utf8Locale(env func(string) string) bool {
	for _, name := range []string{"LC_ALL", "LC_CTYPE", "LANG"} {
		if v := strings.ToLower(env(name)); v != "" {
			return strings.Contains(v, "utf-8") || strings.Contains(v, "utf8")
		}
	}
	return false
}

// Interactive reports whether messages go to a terminal, where a user may be
// asked for something.
func (u *UI) Interactive() bool { return u.err.width > 0 }

// Note tells the user something on standard error.
func (u *UI) Note(format string, args ...any) {
	if !u.Quiet {
		u.message("note", "neuroseal: ", fmt.Sprintf(format, args...))
	}
}

// Warn tells the user, also in quiet mode, what may be a mistake.
func (u *UI) Warn(format string, args ...any) {
	u.message("warning", "neuroseal: warning: ", fmt.Sprintf(format, args...))
}

func (u *UI) message(kind, prefix, text string) {
	if u.JSON {
		u.event(event{Type: kind, Message: text})
		return
	}
	u.toErr(prefix + Line(text) + "\n")
}

// Error reports the error that ends the run.
func (u *UI) Error(code int, message, hint string) {
	if u.JSON {
		u.event(event{Type: "error", Code: code, Message: message, Hint: hint})
		return
	}
	u.toErr("neuroseal: " + u.err.paint(red, "error:") + " " + Line(message) + "\n")
	if hint != "" {
		u.toErr("neuroseal: hint: " + Line(hint) + "\n")
	}
}

// event is a message as a JSON line.
type event struct {
	Type    string `json:"type"` // note, warning or error
	Code    int    `json:"code,omitempty"`
	Message string `json:"message"`
	Hint    string `json:"hint,omitempty"`
}

// event writes one JSON line to standard error.
func (u *UI) event(v any) {
	line, err := marshal(v, "")
	if err != nil {
		line = []byte(`{"type":"error","code":1,"message":"a message cannot be encoded"}` + "\n")
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	_, _ = u.err.w.Write(line) // nobody is left to be told
}

func (u *UI) toErr(text string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bar != nil {
		u.bar.clear()
	}
	_, _ = io.WriteString(u.err.w, text)
}

// Result writes the result of a run to standard output: with JSON the object,
// in quiet mode the path alone (nothing if it is empty), otherwise what text
// writes. text's output may hold what a checkpoint says: it is cleaned.
func (u *UI) Result(object any, path string, text func(w io.Writer)) error {
	switch {
	case u.JSON:
		return u.encode(object)
	case u.Quiet:
		if path == "" {
			return nil
		}
		return u.toOut(path + "\n")
	}
	var b strings.Builder
	text(&b)
	return u.toOut(u.colourMarks(Clean(b.String())))
}

func (u *UI) encode(object any) error {
	b, err := marshal(object, "  ")
	if err != nil {
		return fmt.Errorf("encoding the result: %w", err)
	}
	return u.toOut(string(b))
}

func (u *UI) toOut(text string) error {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.bar != nil {
		u.bar.clear()
	}
	if _, err := io.WriteString(u.out.w, text); err != nil {
		return fmt.Errorf("writing the result: %w", err)
	}
	return nil
}

// marshal encodes v as JSON on one line, or indented, without escaping < and >.
func marshal(v any, indent string) ([]byte, error) {
	var b strings.Builder
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", indent)
	err := enc.Encode(v)
	return []byte(b.String()), err
}
