package text

import (
	"fmt"
	"strings"
)

var (
	methods   = []string{"GET", "GET", "GET", "POST", "PUT", "DELETE"}
	resources = []string{"/orders", "/users", "/carts", "/items", "/images", "/login", "/search", "/health"}
	hosts     = []string{"web-1", "web-2", "web-3", "edge-1", "edge-2"}
	outcomes  = []struct {
		level  string
		status int
	}{
		{"INFO", 200}, {"INFO", 200}, {"INFO", 201}, {"INFO", 204},
		{"WARN", 404}, {"WARN", 429}, {"ERROR", 500}, {"ERROR", 503},
	}
)

// logLines writes one document of the domain "logs": what a made-up server
// noted of one request. The lines share host and request number, time only
// rises, and the last line's ms is the time since the first.
func logLines(s *source) string {
	var (
		began   = s.below(24 * 60 * 60 * 1000)
		now     = began
		host    = pick(s, hosts)
		request = fmt.Sprintf("%04x", s.below(1<<16))
		b       strings.Builder
	)
	note := func(level, format string, args ...any) {
		fmt.Fprintf(&b, "%s %-5s %s req=%s %s\n", clock(now), level, host, request, fmt.Sprintf(format, args...))
	}
	note("INFO", "%s %s/%d", pick(s, methods), pick(s, resources), s.between(1, 99))
	for range s.below(3) {
		took := s.between(1, 40)
		now += took
		switch s.below(3) {
		case 0:
			note("DEBUG", "db rows=%d took=%d", s.below(20), took)
		case 1:
			note("DEBUG", "cache hit=%t took=%d", s.oneIn(2), took)
		default:
			note("DEBUG", "auth user=u%02d took=%d", s.below(100), took)
		}
	}
	now += s.between(1, 9)
	end := pick(s, outcomes)
	note(end.level, "status=%d ms=%d", end.status, now-began)
	return b.String()
}

// clock formats milliseconds since midnight, past which it starts again.
func clock(ms int) string {
	ms %= 24 * 60 * 60 * 1000
	return fmt.Sprintf("%02d:%02d:%02d.%03d", ms/3_600_000, ms/60_000%60, ms/1000%60, ms%1000)
}
