package hubtest

import (
	"io"
	"net/http"
	"slices"
	"strings"
)

// Request is one that arrived.
type Request struct {
	Server        string // hub or storage
	Method, Path  string
	Query         string
	Range         string
	Authorization string
	Header        http.Header
	Bytes         int64 // of the answer's body
	Status        int
}

// Fault makes requests fail.
type Fault struct {
	Server string // hub or storage; "": both
	Method string // "": all
	Path   string // a part of the path; "": all
	Skip   int    // requests that pass first
	Times  int    // requests that fail then; 0: all

	Status     int    // answer with this status
	RetryAfter string // with this header
	Body       string // and this body
	Cut        int64  // else: close the connection after so many bytes of the body
	Lose       bool   // else: do the work, but close the connection before the answer

	seen int
}

// Fail adds a fault. Faults are tried in the order they were added.
func (s *Server) Fail(f Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, &f)
}

// Heal removes all faults.
func (s *Server) Heal() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = nil
}

// Requests returns what arrived since the last call of Forget.
func (s *Server) Requests() []Request {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return slices.Clone(s.requests)
}

// Count counts the requests to a server ("" is both) with a method ("" is any)
// whose path contains part.
func (s *Server) Count(server, method, part string) int {
	n := 0
	for _, r := range s.Requests() {
		if (server == "" || r.Server == server) && (method == "" || r.Method == method) && strings.Contains(r.Path, part) {
			n++
		}
	}
	return n
}

// Traffic returns the bytes of large files that storage sent and took.
func (s *Server) Traffic() (sent, taken int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	return s.served, s.received
}

// Forget drops the record of requests and traffic.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.requests, s.served, s.received = nil, 0, 0
}

// settle waits until no request is under way: a client has its answer before the
// server has written it down. The caller holds mu.
func (s *Server) settle() {
	for s.active > 0 {
		s.idle.Wait()
	}
}

// Arrived sets what is called with every request before it is served, on any
// goroutine; nil for nothing. Where it returns false, the connection is cut
// without an answer.
func (s *Server) Arrived(f func(server string, r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.arrived = f
}

// record notes every request and lets faults happen.
func (s *Server) record(server string, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.active++
		arrived := s.arrived
		s.mu.Unlock()
		cw := &counter{ResponseWriter: w, status: http.StatusOK, limit: -1}
		defer func() {
			s.mu.Lock()
			s.requests = append(s.requests, Request{server, r.Method, r.URL.Path, r.URL.RawQuery, r.Header.Get("Range"),
				r.Header.Get("Authorization"), r.Header.Clone(), cw.bytes, cw.status})
			if server == "storage" && r.Method == http.MethodGet {
				s.served += cw.bytes
			}
			s.active--
			s.mu.Unlock()
			s.idle.Broadcast()
		}()
		f := s.fault(server, r)
		switch {
		case arrived != nil && !arrived(server, r):
			cw.status = 0
			panic(http.ErrAbortHandler)
		case f == nil:
			next.ServeHTTP(cw, r)
		case f.Status != 0:
			if f.RetryAfter != "" {
				w.Header().Set("Retry-After", f.RetryAfter)
			}
			cw.WriteHeader(f.Status)
			_, _ = cw.Write([]byte(f.Body))
		case f.Lose:
			next.ServeHTTP(&counter{ResponseWriter: discard{http.Header{}}, limit: -1}, r)
			panic(http.ErrAbortHandler)
		default:
			cw.limit = f.Cut
			next.ServeHTTP(cw, r)
			if f.Cut == 0 {
				panic(http.ErrAbortHandler)
			}
		}
	})
}

// fault returns the fault that befalls a request, nil for none.
func (s *Server) fault(server string, r *http.Request) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range s.faults {
		if f.Server != "" && f.Server != server || f.Method != "" && f.Method != r.Method || !strings.Contains(r.URL.Path, f.Path) {
			continue
		}
		f.seen++
		if f.seen > f.Skip && (f.Times == 0 || f.seen <= f.Skip+f.Times) {
			return f
		}
	}
	return nil
}

// counter counts an answer's bytes, and cuts the connection after limit of them.
type counter struct {
	http.ResponseWriter
	status int
	bytes  int64
	limit  int64 // -1: none
}

func (c *counter) WriteHeader(status int) {
	c.status = status
	if c.limit == 0 {
		panic(http.ErrAbortHandler)
	}
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	if c.limit >= 0 && c.bytes+int64(len(p)) >= c.limit {
		n, _ := c.ResponseWriter.Write(p[:c.limit-c.bytes])
		c.bytes += int64(n)
		if f, ok := c.ResponseWriter.(http.Flusher); ok {
			f.Flush()
		}
		panic(http.ErrAbortHandler)
	}
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// ReadFrom keeps the kernel's copy from a file to the connection, where nothing
// is to be cut.
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	if rf, ok := c.ResponseWriter.(io.ReaderFrom); ok && c.limit < 0 {
		n, err := rf.ReadFrom(r)
		c.bytes += n
		return n, err
	}
	return io.Copy(onlyWriter{c}, r)
}

type onlyWriter struct{ io.Writer }

// discard takes an answer that nobody gets.
type discard struct{ h http.Header }

func (d discard) Header() http.Header         { return d.h }
func (d discard) Write(p []byte) (int, error) { return len(p), nil }
func (d discard) WriteHeader(int)             {}
