package hubtest

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// hubMux serves the hub's addresses. They are matched by hand: names of models
// have one or two parts, and revisions may hold escaped slashes.
func (s *Server) hubMux() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		parts := strings.Split(strings.TrimPrefix(r.URL.EscapedPath(), "/"), "/")
		for i, p := range parts {
			parts[i], _ = url.PathUnescape(p)
		}
		path := strings.Join(parts, "/")
		switch {
		case path == "api/whoami-v2":
			s.whoami(w, r)
		case path == "api/validate-yaml":
			s.validate(w, r)
		case path == "api/repos/create" && r.Method == http.MethodPost:
			s.create(w, r)
		case path == "api/repos/delete" && r.Method == http.MethodDelete:
			s.remove(w, r)
		case strings.HasPrefix(path, "api/models/"):
			s.model(w, r, parts[2:])
		case strings.HasPrefix(path, "api/resolve-cache/models/"):
			s.resolveCache(w, r, parts[3:])
		default:
			s.page(w, r, parts)
		}
	})
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers as the hub does: a code and a message in headers and body.
func refuse(w http.ResponseWriter, status int, code, message string) {
	if code != "" {
		w.Header().Set("X-Error-Code", code)
	}
	w.Header().Set("X-Error-Message", message)
	answer(w, status, map[string]string{"error": message})
}

// user returns who asks: "" for nobody. A token that is not known is refused.
func (s *Server) user(w http.ResponseWriter, r *http.Request) (string, bool) {
	h := r.Header.Get("Authorization")
	if h == "" {
		return "", true
	}
	s.mu.Lock()
	user, ok := s.tokens[strings.TrimPrefix(h, "Bearer ")]
	s.mu.Unlock()
	if !ok {
		refuse(w, http.StatusUnauthorized, "", "Invalid credentials in Authorization header")
	}
	return user, ok
}

// validate checks the head of a model card: here, that it has an end.
func (s *Server) validate(w http.ResponseWriter, r *http.Request) {
	var v struct{ Content string }
	problems := []map[string]string{}
	if json.NewDecoder(r.Body).Decode(&v) == nil && strings.HasPrefix(v.Content, "---\n") && !strings.Contains(v.Content[4:], "\n---") {
		problems = append(problems, map[string]string{"message": "the metadata has no end"})
	}
	status := http.StatusOK
	if len(problems) > 0 {
		status = http.StatusBadRequest
	}
	answer(w, status, map[string]any{"errors": problems, "warnings": []string{}})
}

func (s *Server) whoami(w http.ResponseWriter, r *http.Request) {
	user, ok := s.user(w, r)
	switch {
	case !ok:
	case user == "":
		refuse(w, http.StatusUnauthorized, "", "Invalid username or password.")
	default:
		answer(w, http.StatusOK, map[string]any{"type": "user", "name": user, "fullname": user, "orgs": []any{},
			"auth": map[string]any{"accessToken": map[string]string{"displayName": "test", "role": "write"}}})
	}
}

// lookup finds a model that the user may know of. The caller holds no lock; what
// is returned changes only under it.
func (s *Server) lookup(w http.ResponseWriter, r *http.Request, id, user string) *repo {
	s.mu.Lock()
	defer s.mu.Unlock()
	if to, ok := s.moved[id]; ok {
		u := *r.URL
		u.Path = strings.Replace(u.Path, id, to, 1)
		w.Header().Set("Location", u.RequestURI())
		w.WriteHeader(http.StatusTemporaryRedirect)
		return nil
	}
	m := s.repos[id]
	switch {
	case (m == nil || m.private && user != m.owner) && user == "":
		refuse(w, http.StatusUnauthorized, "RepoNotFound", "Invalid username or password.")
	case m == nil || m.private && user != m.owner:
		refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
	default:
		return m
	}
	return nil
}

// model serves /api/models/ID and what lies below it.
func (s *Server) model(w http.ResponseWriter, r *http.Request, parts []string) {
	user, ok := s.user(w, r)
	if !ok {
		return
	}
	verbs := []string{"revision", "tree", "preupload", "commit", "paths-info", "refs"}
	n := min(2, len(parts))
	if len(parts) > 1 && slices.Contains(verbs, parts[1]) {
		n = 1
	}
	m := s.lookup(w, r, strings.Join(parts[:n], "/"), user)
	if m == nil {
		return
	}
	verb, rev, rest := "revision", "main", ""
	if len(parts) > n+1 {
		verb, rev, rest = parts[n], parts[n+1], strings.Join(parts[n+2:], "/")
	}
	s.mu.Lock()
	c := m.find(rev)
	s.mu.Unlock()
	if c == nil && !(rev == "main" && (verb == "preupload" || verb == "commit")) {
		refuse(w, http.StatusNotFound, "RevisionNotFound", "Invalid rev id: "+rev)
		return
	}
	switch verb {
	case "revision":
		s.info(w, m, c)
	case "tree":
		s.tree(w, r, c, rest)
	case "paths-info":
		s.pathsInfo(w, r, c)
	case "preupload":
		s.preupload(w, r, m, c, user)
	case "commit":
		s.commit(w, r, m, rev, user)
	default:
		refuse(w, http.StatusNotFound, "", "Not Found")
	}
}

func (s *Server) info(w http.ResponseWriter, m *repo, c *commit) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var gated any = false
	if m.gated {
		gated = "manual"
	}
	siblings := []map[string]string{}
	for _, path := range c.paths() {
		siblings = append(siblings, map[string]string{"rfilename": path})
	}
	answer(w, http.StatusOK, map[string]any{"_id": "0", "id": m.id, "modelId": m.id, "sha": c.oid, "private": m.private,
		"gated": gated, "disabled": false, "downloads": 0, "likes": 0, "tags": []string{}, "siblings": siblings})
}

func (c *commit) paths() []string {
	var out []string
	for p := range c.files {
		out = append(out, p)
	}
	slices.Sort(out)
	return out
}

func (e entry) describe(path string) map[string]any {
	v := map[string]any{"type": "file", "path": path, "oid": e.blobID, "size": e.size}
	if e.sha256 != "" {
		v["lfs"] = map[string]any{"oid": e.sha256, "size": e.size, "pointerSize": len(pointer(e.sha256, e.size))}
	}
	return v
}

// tree lists files page by page.
func (s *Server) tree(w http.ResponseWriter, r *http.Request, c *commit, under string) {
	recursive := r.URL.Query().Get("recursive") == "true" || r.URL.Query().Get("recursive") == "True" || r.URL.Query().Get("recursive") == "1"
	var all []map[string]any
	seen := map[string]bool{}
	for _, path := range c.paths() {
		rest, ok := strings.CutPrefix(path, under)
		if !ok {
			continue
		}
		if dir, _, deep := strings.Cut(strings.TrimPrefix(rest, "/"), "/"); deep {
			if !seen[dir] {
				seen[dir] = true
				all = append(all, map[string]any{"type": "directory", "path": strings.TrimPrefix(under+"/"+dir, "/"),
					"oid": gitBlob([]byte(dir)), "size": 0})
			}
			if !recursive {
				continue
			}
		}
		all = append(all, c.files[path].describe(path))
	}
	page, start := s.PageSize, 0
	if page == 0 {
		page = 1000
	}
	start, _ = strconv.Atoi(r.URL.Query().Get("cursor"))
	start = min(max(start, 0), len(all))
	end := min(start+page, len(all))
	if end < len(all) {
		q := r.URL.Query()
		q.Set("cursor", strconv.Itoa(end))
		w.Header().Set("Link", fmt.Sprintf(`<%s%s?%s>; rel="next"`, s.URL, r.URL.EscapedPath(), q.Encode()))
	}
	if all == nil {
		all = []map[string]any{}
	}
	answer(w, http.StatusOK, all[start:end])
}

func (s *Server) pathsInfo(w http.ResponseWriter, r *http.Request, c *commit) {
	var paths []string
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") {
		var v struct{ Paths []string }
		_ = json.NewDecoder(r.Body).Decode(&v)
		paths = v.Paths
	} else if r.ParseForm() == nil {
		paths = r.Form["paths"]
	}
	out := []map[string]any{}
	for _, p := range paths {
		if e, ok := c.files[p]; ok {
			out = append(out, e.describe(p))
		}
	}
	answer(w, http.StatusOK, out)
}

func (s *Server) create(w http.ResponseWriter, r *http.Request) {
	user, ok := s.user(w, r)
	if !ok {
		return
	}
	var v struct {
		Name, Organization, Type, Visibility string
		Private                              bool
	}
	if json.NewDecoder(r.Body).Decode(&v) != nil || v.Name == "" {
		refuse(w, http.StatusBadRequest, "", "name is missing")
		return
	}
	if v.Organization == "" {
		v.Organization = user
	}
	id := v.Organization + "/" + v.Name
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case user == "":
		refuse(w, http.StatusUnauthorized, "", "Invalid username or password.")
	case v.Organization != user:
		refuse(w, http.StatusForbidden, "", "You don't have the rights to create a model under the namespace \""+v.Organization+"\"")
	case s.repos[id] != nil:
		answer(w, http.StatusConflict, map[string]string{"error": "You already created this model repo", "url": s.URL + "/" + id})
	default:
		m := s.newRepo(id, RepoOptions{Private: v.Private || v.Visibility == "private"})
		c := &commit{title: "initial commit", files: map[string]entry{}}
		c.files[".gitattributes"] = s.store(".gitattributes", []byte("*.safetensors filter=lfs diff=lfs merge=lfs -text\n"))
		m.add("refs/heads/main", c)
		answer(w, http.StatusOK, map[string]string{"url": s.URL + "/" + id, "name": id, "id": "0"})
	}
}

func (s *Server) remove(w http.ResponseWriter, r *http.Request) {
	user, ok := s.user(w, r)
	if !ok {
		return
	}
	var v struct{ Name, Organization string }
	_ = json.NewDecoder(r.Body).Decode(&v)
	id := v.Organization + "/" + v.Name
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.repos[id]; m == nil || m.owner != user {
		refuse(w, http.StatusNotFound, "RepoNotFound", "Repository not found")
		return
	}
	delete(s.repos, id)
	answer(w, http.StatusOK, map[string]string{})
}
