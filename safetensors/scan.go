package safetensors

import (
	"math"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// scanner reads JSON (RFC 8259) strictly. encoding/json is no substitute: it
// keeps the last of several equal keys and repairs invalid UTF-8, so that two
// readers could see two different checkpoints in one file.
type scanner struct {
	b    []byte
	i    int
	base int    // offset of b in the file, for messages
	what string // what is being read, for messages
}

func (s *scanner) errorf(at int, format string, args ...any) error {
	e := fault.New(fault.Mismatch, format, args...)
	e.Msg = s.what + ", byte " + strconv.Itoa(s.base+at) + ": " + e.Msg
	return e
}

func (s *scanner) space() {
	for s.i < len(s.b) {
		switch s.b[s.i] {
		case ' ', '\t', '\n', '\r':
			s.i++
		default:
			return
		}
	}
}

// peek returns the next byte that is no white space, 0 at the end.
func (s *scanner) peek() byte {
	s.space()
	if s.i == len(s.b) {
		return 0
	}
	return s.b[s.i]
}

func (s *scanner) expect(c byte) error {
	if got := s.peek(); got != c {
		if s.i == len(s.b) {
			return s.errorf(s.i, "the JSON ends where %q is due", c)
		}
		return s.errorf(s.i, "found %q where %q is due", got, c)
	}
	s.i++
	return nil
}

// object reads an object and calls field for each key, with the scanner at its
// value and the key's position. Duplicates are for field to notice.
func (s *scanner) object(field func(key string, at int) error) error {
	return s.list('{', '}', func() error {
		s.space()
		at := s.i
		key, err := s.str()
		if err != nil {
			return err
		}
		if err := s.expect(':'); err != nil {
			return err
		}
		return field(key, at)
	})
}

// array reads an array and calls item with the scanner at each value.
func (s *scanner) array(item func() error) error { return s.list('[', ']', item) }

func (s *scanner) list(open, end byte, item func() error) error {
	if err := s.expect(open); err != nil {
		return err
	}
	if s.peek() == end {
		s.i++
		return nil
	}
	for {
		if err := item(); err != nil {
			return err
		}
		if s.peek() == end {
			s.i++
			return nil
		}
		if err := s.expect(','); err != nil {
			return err
		}
	}
}

// str reads a string.
func (s *scanner) str() (string, error) {
	if err := s.expect('"'); err != nil {
		return "", err
	}
	start := s.i
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.checkUTF8(start, s.b[start:s.i-1])
		case c == '\\':
			return s.escaped(start)
		case c < 0x20:
			return "", s.errorf(s.i, "control character 0x%02x in a string", c)
		}
	}
	return "", s.errorf(start-1, "string without end")
}

func (s *scanner) checkUTF8(at int, b []byte) (string, error) {
	if !utf8.Valid(b) {
		return "", s.errorf(at, "string is not valid UTF-8")
	}
	return string(b), nil
}

// escaped goes on with a string that began at start, at its first backslash.
func (s *scanner) escaped(start int) (string, error) {
	out := append([]byte(nil), s.b[start:s.i]...)
	for s.i < len(s.b) {
		switch c := s.b[s.i]; {
		case c == '"':
			s.i++
			return s.checkUTF8(start, out)
		case c < 0x20:
			return "", s.errorf(s.i, "control character 0x%02x in a string", c)
		case c != '\\':
			out = append(out, c)
			s.i++
		default:
			r, err := s.escape()
			if err != nil {
				return "", err
			}
			out = utf8.AppendRune(out, r)
		}
	}
	return "", s.errorf(start-1, "string without end")
}

// escape reads one escape sequence, two for a surrogate pair.
func (s *scanner) escape() (rune, error) {
	at := s.i
	if s.i+1 >= len(s.b) {
		return 0, s.errorf(at, "string without end")
	}
	c := s.b[s.i+1]
	s.i += 2
	switch c {
	case '"', '\\', '/':
		return rune(c), nil
	case 'b':
		return '\b', nil
	case 'f':
		return '\f', nil
	case 'n':
		return '\n', nil
	case 'r':
		return '\r', nil
	case 't':
		return '\t', nil
	case 'u':
		return s.unicodeEscape(at)
	}
	return 0, s.errorf(at, "unknown escape \\%c", c)
}

func (s *scanner) unicodeEscape(at int) (rune, error) {
	r, ok := s.hex4()
	if !ok {
		return 0, s.errorf(at, `\u needs four hexadecimal digits`)
	}
	if !utf16.IsSurrogate(r) {
		return r, nil
	}
	if s.i+1 < len(s.b) && s.b[s.i] == '\\' && s.b[s.i+1] == 'u' {
		s.i += 2
		if low, ok := s.hex4(); ok {
			if full := utf16.DecodeRune(r, low); full != utf8.RuneError {
				return full, nil
			}
		}
	}
	return 0, s.errorf(at, "half of a surrogate pair")
}

func (s *scanner) hex4() (rune, bool) {
	if s.i+4 > len(s.b) {
		return 0, false
	}
	var r rune
	for _, c := range s.b[s.i : s.i+4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c >= 'a' && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case c >= 'A' && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	s.i += 4
	return r, true
}

// uint reads a whole number from 0 to 2^63-1: no sign, fraction or exponent.
func (s *scanner) uint() (int64, error) {
	s.space()
	at := s.i
	var n int64
	for ; s.i < len(s.b) && s.b[s.i] >= '0' && s.b[s.i] <= '9'; s.i++ {
		d := int64(s.b[s.i] - '0')
		if n > (math.MaxInt64-d)/10 {
			return 0, s.errorf(at, "number is larger than 2^63-1")
		}
		n = n*10 + d
	}
	switch {
	case s.i == at:
		return 0, s.errorf(at, "a whole number that is not negative is due")
	case s.b[at] == '0' && s.i > at+1:
		return 0, s.errorf(at, "number with leading zero")
	case s.i < len(s.b) && (s.b[s.i] == '.' || s.b[s.i]|0x20 == 'e'):
		return 0, s.errorf(at, "number is not whole")
	}
	return n, nil
}

// maxDepth bounds the nesting of values that skip passes over.
const maxDepth = 32

// skip passes over one value of any kind.
func (s *scanner) skip(depth int) error {
	if depth == 0 {
		return s.errorf(s.i, "values are nested more than %d deep", maxDepth)
	}
	switch c := s.peek(); c {
	case '{':
		return s.object(func(string, int) error { return s.skip(depth - 1) })
	case '[':
		return s.array(func() error { return s.skip(depth - 1) })
	case '"':
		_, err := s.str()
		return err
	default:
		return s.skipWord()
	}
}

// skipWord passes over a number, true, false or null.
func (s *scanner) skipWord() error {
	at := s.i
	for s.i < len(s.b) && (s.b[s.i] == '+' || s.b[s.i] == '-' || s.b[s.i] == '.' ||
		s.b[s.i] >= '0' && s.b[s.i] <= '9' || s.b[s.i]|0x20 >= 'a' && s.b[s.i]|0x20 <= 'z') {
		s.i++
	}
	switch w := string(s.b[at:s.i]); w {
	case "true", "false", "null":
		return nil
	case "":
		return s.errorf(at, "a value is due")
	default:
		if _, err := strconv.ParseFloat(w, 64); err != nil || w[0]|0x20 >= 'a' {
			return s.errorf(at, "%q is no JSON value", w)
		}
		return nil
	}
}

// end demands that nothing but white space is left.
func (s *scanner) end() error {
	if s.space(); s.i < len(s.b) {
		return s.errorf(s.i, "found %q after the end of the JSON", s.b[s.i])
	}
	return nil
}
