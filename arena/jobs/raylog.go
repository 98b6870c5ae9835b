package jobs

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"path"
	"strings"
)

// Where nodes do not share files, the wrapped command prints, after the job's
// own output:
//
//	-----BEGIN NEUROSEAL RESULT <submission id> <SHA-256 of the result>-----
//	<base64>
//	-----END NEUROSEAL RESULT <submission id>-----
//
// Ray writes the command itself into the log, too: the markers are put together
// by printf, so that its text does not look like them.
const (
	beginMark = "-----BEGIN NEUROSEAL RESULT "
	endMark   = "-----END NEUROSEAL RESULT "
	dashes    = "-----"
)

// carrying is a shell command that runs the job and prints its result.
func carrying(t *task, id string) string {
	r := quote(t.Result)
	var b strings.Builder
	fmt.Fprintf(&b, "mkdir -p %s || exit 71\nrm -f %s\n", quote(path.Dir(t.Result)), r)
	// Ray signals the processes that it finds at one moment. One that the shell
	// starts right then would live on: so the shell passes the signal on.
	b.WriteString("stop= child=\ntrap 'stop=1; [ -z \"$child\" ] || kill \"$child\"' TERM\n")
	fmt.Fprintf(&b, "(\n%s%s\n) <&0 &\nchild=$!\n[ -z \"$stop\" ] || kill \"$child\"\n", changeDir(t.Dir), command(t.Argv))
	b.WriteString("wait \"$child\"; code=$?\n[ -z \"$stop\" ] || { wait \"$child\"; exit 143; }\n")
	fmt.Fprintf(&b, "if [ -s %s ]; then\n", r)
	fmt.Fprintf(&b, "printf '\\n%%sBEGIN NEUROSEAL RESULT %%s %%s%%s\\n' %s %s \"$(sha256sum <%s | cut -c1-64)\" %s\n", dashes, id, r, dashes)
	fmt.Fprintf(&b, "base64 <%s\n", r)
	fmt.Fprintf(&b, "printf '%%sEND NEUROSEAL RESULT %%s%%s\\n' %s %s %s\nfi\n", dashes, id, dashes)
	// The file stays: Ray says that a job is stopped some seconds before its
	// processes are gone, and to remove it then would hit the next try's.
	b.WriteString("exit $code\n")
	return b.String()
}

// extract returns the result that a log carries, nil if none, and the log
// without it. A result that is cut off or damaged is an error.
func extract(text, id string) (result []byte, rest string, err error) {
	begin := "\n" + beginMark + id + " "
	at := strings.LastIndex(text, begin)
	if at < 0 {
		return nil, text, nil
	}
	before, block := text[:at], text[at+len(begin):]
	head, body, found := strings.Cut(block, dashes+"\n")
	if !found || len(head) != 2*sha256.Size {
		return nil, text, fmt.Errorf("the result in the log of %s is cut off", id)
	}
	coded, after, found := strings.Cut(body, endMark+id+dashes+"\n")
	if !found {
		return nil, text, fmt.Errorf("the result in the log of %s is cut off", id)
	}
	result, err = base64.StdEncoding.DecodeString(coded) // skips line ends
	if err != nil {
		return nil, text, fmt.Errorf("the result in the log of %s is damaged: %w", id, err)
	}
	sum := sha256.Sum256(result)
	if want, err := hex.DecodeString(head); err != nil || !bytes.Equal(want, sum[:]) {
		return nil, text, fmt.Errorf("the result in the log of %s is damaged: its SHA-256 is %x", id, sum)
	}
	return result, before + "\n" + after, nil
}
