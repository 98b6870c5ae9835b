package text

import (
	"fmt"
	"strconv"
	"strings"
)

// window is how many bytes the demo model sees at once in training. A tale
// with its questions fits, or the answers could not be learned.
const window = 256

// tale writes one document of the domain "tales": a story with questions about
// it, some sums, or the order of days and months.
func tale(s *source) string {
	switch k := s.below(20); {
	case k < 14:
		return story(s)
	case k < 16:
		return countingStory(s)
	case k < 18:
		return sums(s)
	default:
		return calendar(s)
	}
}

type person struct{ name, he, him, his, kind string }

func girl(name string) person { return person{name, "she", "her", "her", "girl"} }
func boy(name string) person  { return person{name, "he", "him", "his", "boy"} }

var people = []person{
	girl("Anna"), girl("Bella"), girl("Clara"), girl("Dora"), girl("Ella"), girl("Greta"),
	girl("Ida"), girl("Lena"), girl("Mara"), girl("Nora"), girl("Rosa"), girl("Vera"),
	boy("Adam"), boy("Ben"), boy("Carl"), boy("David"), boy("Finn"), boy("Hugo"),
	boy("Jonas"), boy("Leo"), boy("Max"), boy("Oscar"), boy("Paul"), boy("Tom"),
}

var (
	colours = []string{"red", "blue", "green", "yellow", "white", "black", "brown", "orange", "silver", "golden"}
	things  = []string{
		"kite", "ball", "boat", "bell", "basket", "book", "lamp", "drum", "hat", "key",
		"ring", "cup", "box", "coat", "flute", "wheel", "stone", "feather", "blanket", "mirror",
	}
	places = []string{
		"under the bridge", "behind the mill", "near the well", "in the garden", "by the river",
		"on the hill", "at the market", "in the forest", "beside the road", "in the old barn",
		"under a tall tree", "on the beach", "behind the school", "in the attic", "by the gate", "in the tower",
	}
	homes = []string{
		"in a small house", "in a quiet village", "near the sea", "on a farm",
		"at the edge of the wood", "in a busy town", "above the bakery", "next to the church",
	}
	fruits = []string{"apples", "pears", "plums", "cherries", "nuts", "shells", "stones", "eggs", "coins", "buttons"}
	days   = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	months = []string{
		"January", "February", "March", "April", "May", "June", "July",
		"August", "September", "October", "November", "December",
	}
)

// cast fills the slots of one story, so that whoever and whatever appears in
// it comes back under the same name: {hero}, {friend}, {thing}, {place}, ….
func cast(s *source) map[string]string {
	hero, friend := two(s, people)
	colour, thing := pick(s, colours), pick(s, things)
	return map[string]string{
		"hero": hero.name, "he": hero.he, "him": hero.him, "his": hero.his, "kind": hero.kind,
		"friend": friend.name, "fhe": friend.he, "fhis": friend.his,
		"colour": colour, "thing": thing, "athing": article(colour + " " + thing),
		"place": pick(s, places), "home": pick(s, homes), "day": pick(s, days),
	}
}

var openings = []string{
	"{hero} lived {home}.",
	"There was a {kind} named {hero} who lived {home}.",
	"{hero} and {friend} were friends.",
	"Once there was a [kind|clever|brave|quiet|cheerful] {kind} named {hero}.",
	"{hero} was [seven|eight|nine|ten] years old.",
}

// A plot is what happens, and the questions to which it holds the answer.
type plot struct {
	text      string
	questions []string
}

var plots = []plot{
	{
		"On {day} {he} found {athing} {place}. {He} showed it to {friend}. {friend} liked the {thing} very much.",
		[]string{
			"Who found the {thing}?\nA: {hero} found it.",
			"Who liked the {thing}?\nA: {friend} liked it.",
			"Where was the {thing}?\nA: It was {place}.",
			"What colour was the {thing}?\nA: It was {colour}.",
			"What did {hero} find?\nA: {hero} found {athing}.",
			"When did {hero} find the {thing}?\nA: It was on {day}.",
		},
	},
	{
		"On {day} {he} lost {his} {colour} {thing}. {He} looked for it all day. Then {friend} found the {thing} {place}.",
		[]string{
			"Who lost the {thing}?\nA: {hero} lost it.",
			"Who found the {thing}?\nA: {friend} found it.",
			"Where was the {thing}?\nA: It was {place}.",
			"What colour was the {thing}?\nA: It was {colour}.",
			"What did {hero} lose?\nA: {hero} lost {athing}.",
		},
	},
	{
		"{He} wanted to give {friend} a gift. So {he} made {athing} and hid it {place}. [{friend} was very happy.|{friend} smiled and said thank you.]",
		[]string{
			"Who made the {thing}?\nA: {hero} made it.",
			"Who got a gift?\nA: {friend} got a gift.",
			"Where was the {thing}?\nA: It was {place}.",
			"What did {hero} make?\nA: {hero} made {athing}.",
			"What colour was the {thing}?\nA: It was {colour}.",
		},
	},
	{
		"One [cold|warm|rainy|sunny|windy] morning {he} saw {athing} {place}. It was too heavy to carry. {friend} came and helped {him} take the {thing} home.",
		[]string{
			"Who saw the {thing}?\nA: {hero} saw it.",
			"Who helped {hero}?\nA: {friend} helped {him}.",
			"Where was the {thing}?\nA: It was {place}.",
			"What did {hero} see?\nA: {hero} saw {athing}.",
		},
	},
	{
		"One [day|evening|morning] {he} met {friend} {place}. {friend} had {athing}. \"May I hold the {thing}?\" asked {hero}. \"[Yes, you may|Of course]\", said {friend}.",
		[]string{
			"Who had the {thing}?\nA: {friend} had it.",
			"Who asked for the {thing}?\nA: {hero} asked for it.",
			"Where did they meet?\nA: They met {place}.",
			"What did {friend} have?\nA: {friend} had {athing}.",
		},
	},
}

// story writes an opening, a plot, sometimes an ending, and one or two
// questions with their answers, drawing again what comes out too long.
func story(s *source) string {
	for {
		if text := draftStory(s); len(text) <= window {
			return text
		}
	}
}

func draftStory(s *source) string {
	p := pick(s, plots)
	text := pick(s, openings) + " " + p.text
	if s.oneIn(3) {
		text += " [They laughed and went home.|It was a good day.|They were tired and happy.]"
	}
	first, second := two(s, p.questions)
	text += "\nQ: " + first + "\n"
	if s.oneIn(2) {
		text += "Q: " + second + "\n"
	}
	return s.expand(text, cast(s))
}

// countingStory is a story around one sum.
func countingStory(s *source) string {
	slots := cast(s)
	a, b := s.between(2, 9), s.between(1, 9)
	slots["a"], slots["b"], slots["sum"] = strconv.Itoa(a), strconv.Itoa(b)+" more", strconv.Itoa(a+b)
	slots["fruits"] = pick(s, fruits)
	return s.expand("{hero} had {a} {fruits}. {friend} gave {him} {b}. Now {hero} had {sum} {fruits}.\n"+
		"Q: How many {fruits} did {hero} have?\nA: {hero} had {sum} {fruits}.", slots) + "\n"
}

// sums writes two to six lines of additions and subtractions of one-digit
// numbers.
func sums(s *source) string {
	var b strings.Builder
	for range s.between(2, 6) {
		x, y := s.below(10), s.below(10)
		if s.oneIn(2) {
			fmt.Fprintf(&b, "%d plus %d is %d.\n", x, y, x+y)
		} else {
			fmt.Fprintf(&b, "%d minus %d is %d.\n", x+y, y, x)
		}
	}
	return b.String()
}

// calendar writes two to four sentences on what comes before and after what.
func calendar(s *source) string {
	var b strings.Builder
	for range s.between(2, 4) {
		names, what := days, "day"
		if s.oneIn(2) {
			names, what = months, "month"
		}
		i := s.below(len(names))
		this, next := names[i], names[(i+1)%len(names)]
		switch s.below(3) {
		case 0:
			fmt.Fprintf(&b, "After %s comes %s.\n", this, next)
		case 1:
			fmt.Fprintf(&b, "Before %s comes %s.\n", next, this)
		default:
			fmt.Fprintf(&b, "The %s between %s and %s is %s.\n", what, this, names[(i+2)%len(names)], next)
		}
	}
	return b.String()
}
