// Package fault gives errors a kind, which the command turns into a documented
// exit code, and a hint, which tells the user what to do next.
package fault

import (
	"errors"
	"fmt"
)

// Kind classifies an error. Its value is the exit code of the command.
type Kind int

// The kinds, with their exit codes.
const (
	General       Kind = 1   // anything not named below
	Usage         Kind = 2   // the command line or an option is wrong
	NotSealed     Kind = 10  // the checkpoint carries no seal
	AlreadySealed Kind = 11  // the checkpoint is sealed, or looks sealed
	WrongKey      Kind = 12  // password, key or identity does not open the seal
	Mismatch      Kind = 13  // bytes are not what they should be
	Unsupported   Kind = 14  // architecture, config or format is unknown or unsafe
	NoSpace       Kind = 15  // not enough disk space
	Interrupted   Kind = 130 // stopped by a signal
)

// Error is an error with a kind, a message that says what is wrong and where,
// and an optional hint.
type Error struct {
	Kind Kind
	Msg  string
	Hint string
	Err  error
}

func (e *Error) Error() string {
	if e.Err == nil {
		return e.Msg
	}
	if e.Msg == "" {
		return e.Err.Error()
	}
	return e.Msg + ": " + e.Err.Error()
}

// Unwrap returns the cause, if any.
func (e *Error) Unwrap() error { return e.Err }

// New returns an error of the given kind.
func New(k Kind, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...)}
}

// Wrap returns an error of the given kind around err.
func Wrap(k Kind, err error, format string, args ...any) *Error {
	return &Error{Kind: k, Msg: fmt.Sprintf(format, args...), Err: err}
}

// WithHint adds what to do next and returns e.
func (e *Error) WithHint(format string, args ...any) *Error {
	e.Hint = fmt.Sprintf(format, args...)
	return e
}

// KindOf returns the kind of the first Error in err's chain, General if there
// is none, and 0 for a nil error.
func KindOf(err error) Kind {
	if err == nil {
		return 0
	}
	var e *Error
	if errors.As(err, &e) {
		return e.Kind
	}
	return General
}

// HintOf returns the first hint in err's chain.
func HintOf(err error) string {
	for err != nil {
		if e, ok := err.(*Error); ok && e.Hint != "" {
			return e.Hint
		}
		err = errors.Unwrap(err)
	}
	return ""
}
