package pt2
import ("testing";"fmt";"os";"github.com/neuroseal/neuroseal/gauge";"github.com/neuroseal/neuroseal/checkpoint")
func TestYY(t *testing.T) {
	d := os.Getenv("PT2_ONE"); if d=="" {t.Skip()}
	p, err := Open(d+"/model.pt2"); if err!=nil {t.Fatal(err)}
	ck, err := checkpoint.Open(d); if err!=nil {t.Fatal(err)}
	g,_,err := p.Graph(ck.Shapes(), Options{}); if err!=nil {t.Fatal(err)}
	sol, err := gauge.Solve(g); if err!=nil {t.Fatal(err)}
	for _, x := range sol.Groups { fmt.Printf("@@ %+v\n", x) }
	for _, x := range sol.Holes { fmt.Printf("@@ hole %+v\n", x) }
}
func TestXX(t *testing.T) {
	d := os.Getenv("PT2_ONE"); if d=="" {t.Skip()}
	p, _ := Open(d+"/model.pt2")
	ck, _ := checkpoint.Open(d)
	g,_,_ := p.Graph(ck.Shapes(), Options{})
	sol, _ := gauge.Solve(g)
	for _, x := range sol.Tensors { fmt.Printf("@@ %+v\n", x) }
	for i, n := range g.Nodes { if i<70 {fmt.Printf("@@ %d %v %v %v %s\n", i, n.Op, n.In, n.Shape, n.Name)} }
}
