"""The colours of domains, slices and methods, by their number."""

# The first eight are those of Okabe and Ito (2008) with dark grey in place of black. Each further one is the colour
# farthest (in Oklab, seen with normal, protanopic and deuteranopic eyes) from all before it, from light grey and white.
COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9", "#F0E442", "#4D4D4D", "#990DFF", "#0D0D99"),
    *("#B20D7F", "#0DE699", "#4C0D4C", "#991A0D", "#997FFF", "#5933B2", "#E61ACC", "#FF2666", "#99B28C", "#1A0DE6"),
    *("#FFB2FF", "#8C6640", "#4C260D", "#0D591A", "#7F7399", "#FF73D9", "#D9A6B2", "#FFBF7F", "#99D90D", "#732673"),
)
