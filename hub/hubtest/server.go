// Package hubtest is a Hugging Face hub for tests: two HTTP servers on
// loopback, one that is the hub and one, on another host name, that stores large
// files, as the real hub's storage does. It follows the documented protocol
// closely enough that the huggingface_hub client downloads from it and uploads
// to it, keeps everything in memory, and can be told to fail in every way that
// networks and hubs fail.
package hubtest

import (
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"sync"
)

// Server is a hub. Its fields are set before the first request.
type Server struct {
	URL        string // HF_ENDPOINT
	StorageURL string // another origin, which must never see a token

	PageSize  int   // entries of a listing per page; 0: 1000
	PartSize  int64 // LFS uploads of more bytes come in parts of so many; 0: never
	LFSAbove  int64 // files of more bytes, and *.safetensors, go to large file storage; 0: 10 MiB
	NoRanges  bool  // storage sends whole files, whatever is asked
	Redirect  bool  // small files are redirected too, within the hub, as today's hub does
	ExpireURL int   // signed addresses are refused after so many uses; 0: never

	arrived func(server string, r *http.Request) bool // see Arrived

	hub, storage *httptest.Server

	mu       sync.Mutex
	repos    map[string]*repo
	moved    map[string]string // old name → new
	tokens   map[string]string // token → user
	objects  map[string]object // large files by SHA-256
	uploads  map[string]map[int][]byte
	signed   map[string]int // uses of a signed address
	faults   []*Fault
	requests []Request
	served   int64 // bytes of file content sent
	received int64 // bytes of file content taken
	nextID   int
	active   int        // requests under way
	idle     *sync.Cond // active has changed
}

// object is content in memory or in a file.
type object struct {
	data []byte
	path string
	size int64
}

func (o object) open() (io.ReadSeekCloser, error) {
	if o.path != "" {
		return os.Open(o.path)
	}
	return nopCloser{strings.NewReader(string(o.data))}, nil
}

type nopCloser struct{ io.ReadSeeker }

func (nopCloser) Close() error { return nil }

// entry is a file of a commit.
type entry struct {
	blobID string // git SHA-1 of the content or the LFS pointer
	sha256 string // "" for a regular file
	size   int64
	data   []byte // of a regular file
}

type commit struct {
	oid, title string
	files      map[string]entry
}

// repo is a model.
type repo struct {
	id      string
	private bool
	gated   bool
	allowed map[string]bool // users with access to a gated repo
	owner   string
	refs    map[string]string // refs/heads/main, refs/pr/1 → commit
	commits map[string]*commit
	prs     int
}

// New starts a hub. Close stops it.
func New() *Server {
	s := &Server{repos: map[string]*repo{}, moved: map[string]string{}, tokens: map[string]string{},
		objects: map[string]object{}, uploads: map[string]map[int][]byte{}, signed: map[string]int{}}
	s.idle = sync.NewCond(&s.mu)
	s.hub = serve("127.0.0.1", s.record("hub", s.hubMux()))
	s.storage = serve("localhost", s.record("storage", s.storageMux()))
	s.URL = s.hub.URL
	s.StorageURL = strings.Replace(s.storage.URL, "127.0.0.1", "localhost", 1)
	return s
}

func serve(host string, h http.Handler) *httptest.Server {
	l, err := net.Listen("tcp4", net.JoinHostPort(host, "0"))
	if err != nil {
		panic("hubtest: " + err.Error())
	}
	ts := &httptest.Server{Listener: l, Config: &http.Server{Handler: h}}
	ts.Start()
	return ts
}

// Close stops both servers, and cuts what is still open.
func (s *Server) Close() {
	s.hub.CloseClientConnections()
	s.storage.CloseClientConnections()
	s.hub.Close()
	s.storage.Close()
}

// Reset removes all models and everything that was stored.
func (s *Server) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	clear(s.repos)
	clear(s.moved)
	clear(s.objects)
	clear(s.uploads)
}

// AddUser makes token a credential of user.
func (s *Server) AddUser(user, token string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.tokens[token] = user
}

// RepoOptions describe a model.
type RepoOptions struct {
	Owner   string // the user who may write; "" is the first part of the name
	Private bool
	Gated   bool
	Allowed []string // users whose request for a gated model was granted
}

// AddRepo makes a model with one commit that holds files. The commit's name is
// returned.
func (s *Server) AddRepo(id string, opt RepoOptions, files map[string][]byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.newRepo(id, opt)
	c := &commit{title: "initial commit", files: map[string]entry{}}
	for path, data := range files {
		c.files[path] = s.store(path, data)
	}
	return r.add("refs/heads/main", c)
}

// AddFile puts a file of this machine into large file storage and commits it. Its
// bytes are read when they are asked for, so that it may be large.
func (s *Server) AddFile(id, path, file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	h := sha256.New()
	n, err := io.Copy(h, f)
	if err != nil {
		return err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	s.mu.Lock()
	defer s.mu.Unlock()
	s.objects[sum] = object{path: file, size: n}
	r := s.repos[id]
	c := r.head("refs/heads/main").child("add " + path)
	c.files[path] = lfsEntry(sum, n)
	r.add("refs/heads/main", c)
	return nil
}

// Commit adds a commit that sets and (where the content is nil) removes files.
func (s *Server) Commit(id string, files map[string][]byte) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[id]
	c := r.head("refs/heads/main").child("update")
	for path, data := range files {
		if data == nil {
			delete(c.files, path)
			continue
		}
		c.files[path] = s.store(path, data)
	}
	return r.add("refs/heads/main", c)
}

// Tag names a commit.
func (s *Server) Tag(id, tag, commit string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.repos[id].refs["refs/tags/"+tag] = commit
}

// Rename moves a model; the old name redirects.
func (s *Server) Rename(from, to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[from]
	delete(s.repos, from)
	r.id = to
	s.repos[to], s.moved[from] = r, to
}

// Content returns the files of a revision, nil if there is none.
func (s *Server) Content(id, revision string) map[string][]byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[id]
	if r == nil {
		return nil
	}
	c := r.find(revision)
	if c == nil {
		return nil
	}
	out := map[string][]byte{}
	for path, e := range c.files {
		out[path] = e.data
		if e.sha256 != "" {
			o := s.objects[e.sha256]
			out[path] = o.data
			if o.path != "" {
				out[path], _ = os.ReadFile(o.path)
			}
		}
	}
	return out
}

// Corrupt changes one byte of a stored large file, so that its checksum is wrong.
func (s *Server) Corrupt(content []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sum := sha256.Sum256(content)
	key := hex.EncodeToString(sum[:])
	o := s.objects[key]
	o.data = append([]byte(nil), o.data...)
	o.data[len(o.data)/2] ^= 1
	s.objects[key] = o
}

// Private reports whether a model exists and is private.
func (s *Server) Private(id string) (exists, private bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.repos[id]
	return r != nil, r != nil && r.private
}

// Commits counts the commits of a model that are reachable or not.
func (s *Server) Commits(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.repos[id].commits)
}

func (s *Server) newRepo(id string, opt RepoOptions) *repo {
	owner, _, _ := strings.Cut(id, "/")
	if opt.Owner != "" {
		owner = opt.Owner
	}
	r := &repo{id: id, private: opt.Private, gated: opt.Gated, owner: owner, allowed: map[string]bool{},
		refs: map[string]string{}, commits: map[string]*commit{}}
	for _, u := range opt.Allowed {
		r.allowed[u] = true
	}
	s.repos[id] = r
	return r
}

// store keeps a file's content where the hub would keep it.
func (s *Server) store(path string, data []byte) entry {
	if !s.large(path, int64(len(data))) {
		return entry{blobID: gitBlob(data), size: int64(len(data)), data: data}
	}
	sum := sha256.Sum256(data)
	key := hex.EncodeToString(sum[:])
	s.objects[key] = object{data: data, size: int64(len(data))}
	return lfsEntry(key, int64(len(data)))
}

func (s *Server) large(path string, size int64) bool {
	limit := s.LFSAbove
	if limit == 0 {
		limit = 10 << 20
	}
	return size > limit || size > 0 && (strings.HasSuffix(path, ".safetensors") || strings.HasSuffix(path, ".gguf"))
}

func lfsEntry(sum string, size int64) entry {
	return entry{blobID: gitBlob(pointer(sum, size)), sha256: sum, size: size}
}

// pointer is what git holds in the place of a large file.
func pointer(sum string, size int64) []byte {
	return fmt.Appendf(nil, "version https://git-lfs.github.com/spec/v1\noid sha256:%s\nsize %d\n", sum, size)
}

func gitBlob(data []byte) string {
	h := sha1.New()
	fmt.Fprintf(h, "blob %d\x00", len(data))
	h.Write(data)
	return hex.EncodeToString(h.Sum(nil))
}

// child copies a commit's files for the next one.
func (c *commit) child(title string) *commit {
	n := &commit{title: title, files: map[string]entry{}}
	for k, v := range c.files {
		n.files[k] = v
	}
	return n
}

// add makes a commit the head of a ref.
func (r *repo) add(ref string, c *commit) string {
	c.oid = gitBlob(fmt.Appendf(nil, "%s %d %s", r.id, len(r.commits), c.title))
	r.commits[c.oid] = c
	r.refs[ref] = c.oid
	return c.oid
}

func (r *repo) head(ref string) *commit {
	if c := r.commits[r.refs[ref]]; c != nil {
		return c
	}
	return &commit{files: map[string]entry{}}
}

// find returns the commit that a revision names.
func (r *repo) find(revision string) *commit {
	for _, ref := range []string{revision, "refs/heads/" + revision, "refs/tags/" + revision} {
		if oid, ok := r.refs[ref]; ok {
			return r.commits[oid]
		}
	}
	return r.commits[revision]
}
