"""BibTeX of the methods that an experiment uses."""

ENTRIES = {
    "hu2022lora": (
        "inproceedings",
        "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and Wang, Shean and "
        "Wang, Lu and Chen, Weizhu",
        "{LoRA}: Low-Rank Adaptation of Large Language Models",
        {"booktitle": "International Conference on Learning Representations", "year": "2022"},
    ),
    "shao2024deepseekmath": (
        "misc",
        "Shao, Zhihong and Wang, Peiyi and Zhu, Qihao and Xu, Runxin and Song, Junxiao and others",
        "{DeepSeekMath}: Pushing the Limits of Mathematical Reasoning in Open Language Models",
        {"year": "2024", "eprint": "2402.03300", "archiveprefix": "arXiv"},
    ),
    "yu2025dapo": (
        "misc",
        "Yu, Qiying and Zhang, Zheng and Zhu, Ruofei and Yuan, Yufeng and Zuo, Xiaochen and others",
        "{DAPO}: An Open-Source {LLM} Reinforcement Learning System at Scale",
        {"year": "2025", "eprint": "2503.14476", "archiveprefix": "arXiv"},
    ),
    "liu2025understanding": (
        "misc",
        "Liu, Zichen and Chen, Changyu and Li, Wenjun and Qi, Penghui and Pang, Tianyu and others",
        "Understanding {R1-Zero}-Like Training: A Critical Perspective",
        {"year": "2025", "eprint": "2503.20783", "archiveprefix": "arXiv"},
    ),
    "ahmadian2024back": (
        "misc",
        "Ahmadian, Arash and Cremer, Chris and Gall{\\'e}, Matthias and Fadaee, Marzieh and Kreutzer, Julia and others",
        "Back to Basics: Revisiting {REINFORCE} Style Optimization for Learning from Human Feedback in {LLMs}",
        {"year": "2024", "eprint": "2402.14740", "archiveprefix": "arXiv"},
    ),
    "yuan2023scaling": (
        "misc",
        "Yuan, Zheng and Yuan, Hongyi and Li, Chengpeng and Dong, Guanting and Lu, Keming and others",
        "Scaling Relationship on Learning Mathematical Reasoning with Large Language Models",
        {"year": "2023", "eprint": "2308.01825", "archiveprefix": "arXiv"},
    ),
    "rafailov2023direct": (
        "inproceedings",
        "Rafailov, Rafael and Sharma, Archit and Mitchell, Eric and Ermon, Stefano and Manning, Christopher D. and "
        "Finn, Chelsea",
        "Direct Preference Optimization: Your Language Model is Secretly a Reward Model",
        {"booktitle": "Advances in Neural Information Processing Systems", "year": "2023"},
    ),
    "azar2024general": (
        "inproceedings",
        "Azar, Mohammad Gheshlaghi and Guo, Zhaohan Daniel and Piot, Bilal and Munos, Remi and others",
        "A General Theoretical Paradigm to Understand Learning from Human Preferences",
        {"booktitle": "International Conference on Artificial Intelligence and Statistics", "year": "2024"},
    ),
    "chowdhury2024provably": (
        "misc",
        "Chowdhury, Sayak Ray and Kini, Anush and Natarajan, Nagarajan",
        "Provably Robust {DPO}: Aligning Language Models with Noisy Feedback",
        {"year": "2024", "eprint": "2403.00409", "archiveprefix": "arXiv"},
    ),
    "schulman2017proximal": (
        "misc",
        "Schulman, John and Wolski, Filip and Dhariwal, Prafulla and Radford, Alec and Klimov, Oleg",
        "Proximal Policy Optimization Algorithms",
        {"year": "2017", "eprint": "1707.06347", "archiveprefix": "arXiv"},
    ),
    "schulman2016high": (
        "inproceedings",
        "Schulman, John and Moritz, Philipp and Levine, Sergey and Jordan, Michael and Abbeel, Pieter",
        "High-Dimensional Continuous Control Using Generalized Advantage Estimation",
        {"booktitle": "International Conference on Learning Representations", "year": "2016"},
    ),
    "vonwerra2020trl": (
        "misc",
        "von Werra, Leandro and Belkada, Younes and Tunstall, Lewis and Beeching, Edward and others",
        "{TRL}: Transformer Reinforcement Learning",
        {"year": "2020", "howpublished": "Software"},
    ),
    "sheng2024hybridflow": (
        "misc",
        "Sheng, Guangming and Zhang, Chi and Ye, Zilingfeng and Wu, Xibin and Zhang, Wang and others",
        "{HybridFlow}: A Flexible and Efficient {RLHF} Framework",
        {"year": "2024", "eprint": "2409.19256", "archiveprefix": "arXiv"},
    ),
    "hu2024openrlhf": (
        "misc",
        "Hu, Jian and Wu, Xibin and Wang, Weixun and Zhang, Dehao and Cao, Yu and others",
        "{OpenRLHF}: An Easy-to-use, Scalable and High-performance {RLHF} Framework",
        {"year": "2024", "eprint": "2405.11143", "archiveprefix": "arXiv"},
    ),
    "kwon2023efficient": (
        "inproceedings",
        "Kwon, Woosuk and Li, Zhuohan and Zhuang, Siyuan and Sheng, Ying and Zheng, Lianmin and others",
        "Efficient Memory Management for Large Language Model Serving with {PagedAttention}",
        {"booktitle": "Symposium on Operating Systems Principles", "year": "2023"},
    ),
    "allal2025smollm2": (
        "misc",
        "Allal, Loubna Ben and Lozhkov, Anton and Bakouch, Elie and Bl{\\'a}zquez, Gabriel Mart{\\'i}n and others",
        "{SmolLM2}: When Smol Goes Big -- Data-Centric Training of a Small Language Model",
        {"year": "2025", "eprint": "2502.02737", "archiveprefix": "arXiv"},
    ),
    "friedman2001greedy": (
        "article",
        "Friedman, Jerome H.",
        "Greedy Function Approximation: A Gradient Boosting Machine",
        {"journal": "The Annals of Statistics", "volume": "29", "number": "5", "pages": "1189--1232", "year": "2001"},
    ),
    "pedregosa2011scikit": (
        "article",
        "Pedregosa, Fabian and Varoquaux, Ga{\\\"e}l and Gramfort, Alexandre and Michel, Vincent and others",
        "Scikit-learn: Machine Learning in {Python}",
        {"journal": "Journal of Machine Learning Research", "volume": "12", "pages": "2825--2830", "year": "2011"},
    ),
    "molder2021sustainable": (
        "article",
        "M{\\\"o}lder, Felix and Jablonski, Kim Philipp and Letcher, Brice and Hall, Michael B. and others",
        "Sustainable Data Analysis with {Snakemake}",
        {"journal": "F1000Research", "volume": "10", "pages": "33", "year": "2021"},
    ),
    "wilson1927probable": (
        "article",
        "Wilson, Edwin B.",
        "Probable Inference, the Law of Succession, and Statistical Inference",
        {"journal": "Journal of the American Statistical Association", "volume": "22", "number": "158",
         "pages": "209--212", "year": "1927"},
    ),
    "korn1998confidence": (
        "article",
        "Korn, Edward L. and Graubard, Barry I.",
        "Confidence Intervals for Proportions with Small Expected Number of Positive Counts Estimated from Survey Data",
        {"journal": "Survey Methodology", "volume": "24", "pages": "193--201", "year": "1998"},
    ),
    "mcnemar1947note": (
        "article",
        "McNemar, Quinn",
        "Note on the Sampling Error of the Difference between Correlated Proportions or Percentages",
        {"journal": "Psychometrika", "volume": "12", "number": "2", "pages": "153--157", "year": "1947"},
    ),
    "agresti2005simple": (
        "article",
        "Agresti, Alan and Min, Yongyi",
        "Simple Improved Confidence Intervals for Comparing Matched Proportions",
        {"journal": "Statistics in Medicine", "volume": "24", "number": "5", "pages": "729--740", "year": "2005"},
    ),
    "obuchowski1995hypothesis": (
        "article",
        "Obuchowski, Nancy A. and Rockette, Howard E.",
        "Hypothesis Testing of Diagnostic Accuracy for Multiple Readers and Multiple Tests: An {ANOVA} Approach with "
        "Dependent Observations",
        {"journal": "Communications in Statistics -- Simulation and Computation", "volume": "24", "number": "2",
         "pages": "285--308", "year": "1995"},
    ),
    "holm1979simple": (
        "article",
        "Holm, Sture",
        "A Simple Sequentially Rejective Multiple Test Procedure",
        {"journal": "Scandinavian Journal of Statistics", "volume": "6", "number": "2", "pages": "65--70",
         "year": "1979"},
    ),
}  # fmt: skip


def bibtex(keys) -> str:
    """The entries of these keys, sorted; raises KeyError for a key that there is not."""
    blocks = []
    for key in sorted(set(keys)):
        kind, authors, title, more = ENTRIES[key]
        fields = {"author": authors, "title": title} | more
        lines = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields.items())
        blocks.append(f"@{kind}{{{key},\n{lines}\n}}")
    return "\n\n".join(blocks) + "\n"
