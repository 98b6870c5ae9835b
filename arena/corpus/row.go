package corpus

import (
	"bytes"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/neuroseal/neuroseal/internal/fault"
)

// A message of a chat. Older datasets write from and value.
type message struct {
	Role    string `json:"role"`
	Content any    `json:"content"`
	From    string `json:"from"`
	Value   string `json:"value"`
}

// turn writes one message, in the form named ChatML.
func turn(role, content string) string {
	return "<|im_start|>" + role + "\n" + content + "<|im_end|>\n"
}

// jsonRow returns the text of one object. White space is an empty text.
func jsonRow(row []byte, field string) (string, error) {
	if row = bytes.TrimSpace(row); len(row) == 0 {
		return "", nil
	}
	if !utf8.Valid(row) {
		return "", fault.New(fault.Mismatch, "it is not UTF-8")
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(row, &members); err != nil {
		return "", fault.Wrap(fault.Mismatch, err, "it is not a JSON object")
	}
	if members == nil {
		return "", fault.New(fault.Mismatch, "it is null, not a JSON object")
	}
	if field != "" {
		return jsonText(members, field)
	}
	for _, f := range []string{"text", "messages", "prompt", "content"} {
		if _, ok := members[f]; !ok {
			continue
		}
		if f != "prompt" {
			return jsonText(members, f)
		}
		if _, ok := members["completion"]; !ok {
			continue
		}
		prompt, err := jsonText(members, f)
		if err != nil {
			return "", err
		}
		completion, err := jsonText(members, "completion")
		return prompt + completion, err
	}
	names := make([]string, 0, len(members))
	for name := range members {
		names = append(names, name)
	}
	return "", unknownFields(names)
}

func unknownFields(names []string) error {
	slices.Sort(names)
	if len(names) > 12 {
		names = append(names[:12], "…")
	}
	for i, n := range names {
		if len(n) > 40 {
			names[i] = n[:40] + "…"
		}
	}
	return fault.New(fault.Unsupported, "none of text, messages, prompt with completion, content is among its fields: %s", strings.Join(names, ", ")).
		WithHint("say which field holds the text")
}

// jsonText returns a field's text: a string, or messages.
func jsonText(members map[string]json.RawMessage, field string) (string, error) {
	raw, ok := members[field]
	if !ok {
		return "", fault.New(fault.Unsupported, "it has no field %q", field)
	}
	var s string
	if json.Unmarshal(raw, &s) == nil { // of null, too
		return s, nil
	}
	var chat []message
	if json.Unmarshal(raw, &chat) != nil {
		return "", fault.New(fault.Unsupported, "the field %q is neither a string nor a list of messages", field)
	}
	var b strings.Builder
	for i, m := range chat {
		role, content := m.Role, m.Content
		if role == "" && content == nil {
			role, content = m.From, m.Value
		}
		text, ok := contentText(content)
		if role == "" || !ok {
			return "", fault.New(fault.Unsupported, "the field %q: message %d does not have a role and a text", field, i)
		}
		b.WriteString(turn(role, text))
	}
	return b.String(), nil
}

// contentText is a string, nothing, or a list of parts that are texts.
func contentText(content any) (string, bool) {
	switch c := content.(type) {
	case nil:
		return "", true
	case string:
		return c, true
	case []any:
		var b strings.Builder
		for _, part := range c {
			p, _ := part.(map[string]any)
			text, ok := p["text"].(string)
			if !ok {
				return "", false
			}
			b.WriteString(text)
		}
		return b.String(), true
	}
	return "", false
}

// readJSONArray reads one array of objects, an element at a time.
func readJSONArray(r io.Reader, field string, emit emitter) error {
	bounded := &boundedReader{r: r, left: maxRow}
	d := json.NewDecoder(bounded)
	if _, err := d.Token(); err != nil {
		return fault.Wrap(fault.Mismatch, err, "it is not JSON")
	}
	for d.More() {
		bounded.left = maxRow
		var row json.RawMessage
		at := d.InputOffset()
		err := d.Decode(&row)
		if err == nil && len(row) > maxRow {
			bounded.left, err = 0, io.ErrUnexpectedEOF
		}
		if err == nil {
			var text string
			if text, err = jsonRow(row, field); err == nil {
				err = emitDocument(emit, text)
			}
		} else if bounded.left <= 0 {
			err = fault.New(fault.Unsupported, "it is longer than %d bytes", maxRow)
		} else {
			err = fault.Wrap(fault.Mismatch, err, "it is not JSON")
		}
		if err == errEnough {
			return err
		}
		if err != nil {
			return fault.Wrap(fault.KindOf(err), err, "the element behind byte %d", at)
		}
	}
	if _, err := d.Token(); err != nil {
		return fault.Wrap(fault.Mismatch, err, "it is not JSON")
	}
	return nil
}

// boundedReader ends after left bytes, so that no element fills the memory.
type boundedReader struct {
	r    io.Reader
	left int
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.ErrUnexpectedEOF
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}
