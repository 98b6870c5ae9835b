package neuroseal

import (
	"path"

	"github.com/neuroseal/neuroseal/gauge"
)

// held names the groups that move features which the network's outputs hold
// only the direction of, with the reason: whoever publishes CLIP expects that
// get_image_features and get_text_features, and the classes of one encoder with
// its projection, return what they returned. A pattern of --include that matches
// such a group's id moves it all the same.
func (l *locker) held() map[string]string {
	out := map[string]string{}
	for i := range l.sol.Reaching(gauge.Directions(l.m.net.Graph)) {
		g := l.sol.Groups[i]
		if !l.o.asksFor(g.ID) {
			out[g.ID] = "features that are also returned undivided by their length stay as they are; --include '" + g.ID + "' moves them"
		}
	}
	return out
}

// asksFor reports whether a pattern of --include matches a group's id.
func (o *LockOptions) asksFor(id string) bool {
	for _, p := range o.Include {
		if ok, err := path.Match(p, id); err == nil && ok {
			return true
		}
	}
	return false
}
