// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.28;

import {Ownable} from "@openzeppelin/contracts/access/Ownable.sol";

import {IBlockOTA} from "../../contracts/interfaces/IBlockOTA.sol";
import {IFirmwareReplication} from "../../contracts/interfaces/IFirmwareReplication.sol";
import {ForgeTest, IWholeBlockOTA} from "./Forge.sol";

/// @title An owner of BlockOTA that returns the given data, or reverts with it
contract AnyOwner {
    bytes private _answer;
    bool private _fails;

    constructor(bytes memory answer, bool fails) {
        (_answer, _fails) = (answer, fails);
    }

    fallback(bytes calldata) external returns (bytes memory) {
        if (!_fails) return _answer;
        bytes memory answer = _answer;
        assembly {
            revert(add(answer, 0x20), mload(answer))
        }
    }
}

/// @title Single calls with random values
contract Fuzz is ForgeTest {
    bytes32 private constant PRODUCT = "acme-thermo2";
    address private constant BROKER = address(0xB);

    IWholeBlockOTA private _record;
    IFirmwareReplication private _replication;

    function setUp() external {
        vm.warp(1_700_000_000);
        _record = _deployBlockOTA(address(this));
        bytes memory argument = abi.encode(_record);
        _replication = IFirmwareReplication(_deploy("FirmwareReplication", argument));
        _record.pairOem(PRODUCT, "ACME", 0x0410, 0x0800_0000, 0x1_0000);
    }

    function testFuzz_B2_aNameIsOneToThirtyOneVisibleCharacters(bytes32 name, uint8 length, bool seldom) external {
        for (uint256 i = 0; i < 32 && !seldom; ++i) {
            uint8 character = i < length % 34 ? uint8(_pick(uint8(name[i]), 33, 126)) : 0;
            name = bytes32((uint256(name) & ~(0xFF << (248 - 8 * i))) | (uint256(character) << (248 - 8 * i)));
        }
        (uint256 used, bool good) = (0, true);
        for (; used < 32 && name[used] != 0; ++used) good = good && name[used] > 0x20 && name[used] < 0x7f;
        for (uint256 i = used; i < 32; ++i) good = good && name[i] == 0;
        bytes memory refusal;
        if (!good || used == 0 || used == 32) refusal = abi.encodeWithSelector(IBlockOTA.NameInvalid.selector, name);
        _expect(address(this), address(_record), abi.encodeCall(_record.pairOem, (name, "ACME", 1, 2, 3)), refusal);
        _expect(address(this), address(_record), abi.encodeCall(_record.pairOem, ("other", name, 1, 2, 3)), refusal);
    }

    function testFuzz_B5_aRegionHasBytesAndEndsIn32Bits(uint32 start, uint32 size) external {
        bytes memory refusal;
        if (size == 0 || uint256(start) + size > 2 ** 32) {
            refusal = abi.encodeWithSelector(IBlockOTA.RegionInvalid.selector, start, size);
        }
        bytes memory call = abi.encodeCall(_record.pairOem, (PRODUCT, "ACME", 0x0410, start, size));
        _expect(address(this), address(_record), call, refusal);
    }

    function testFuzz_B5_anImageFitsItsRegion(uint32 start, uint32 size, uint32 place, uint32 length) external {
        size = uint32(_pick(size, 1, type(uint32).max));
        start = uint32(_pick(start, 0, 2 ** 32 - size));
        if (length % 3 == 0) (place, length) = (start, size);
        else if (length % 3 == 1) place = start + uint32(_pick(place, 0, size - 1));
        length = length == 0 ? 1 : length;
        _record.pairOem(PRODUCT, "ACME", 0x0410, start, size);
        bytes memory refusal;
        if (place < start || uint256(place) + length > uint256(start) + size) {
            bytes4 selector = IBlockOTA.ImageOutsideRegion.selector;
            refusal = abi.encodeWithSelector(selector, PRODUCT, place, length, start, size);
        }
        bytes memory call = abi.encodeCall(_record.publish, (_release(1, place, length)));
        _expect(address(this), address(_record), call, refusal);
    }

    function testFuzz_B6_anyOtherAccountIsRefused(address account, bytes32 product, uint64 version) external {
        vm.assume(account != address(this) && account != address(0)); // 0 is the pending owner
        bytes memory refusal = abi.encodeWithSelector(Ownable.OwnableUnauthorizedAccount.selector, account);
        address target = address(_record);
        _expect(account, target, abi.encodeCall(_record.publish, (_release(version, 0, 1))), refusal);
        _expect(account, target, abi.encodeCall(_record.revoke, (product, version, "x")), refusal);
        _expect(account, target, abi.encodeCall(_record.setMinimumVersion, (product, version)), refusal);
        _expect(account, target, abi.encodeCall(_record.pairOem, (product, "ACME", 1, 2, 3)), refusal);
        _expect(account, target, abi.encodeCall(_record.unpairOem, (product)), refusal);
        _expect(account, target, abi.encodeCall(_record.resume, ()), refusal);
        _expect(account, target, abi.encodeCall(_record.transferOwnership, (account)), refusal);
        _expect(account, target, abi.encodeCall(_record.acceptOwnership, ()), refusal);
        refusal = abi.encodeWithSelector(IBlockOTA.PausingNotAllowed.selector, account);
        _expect(account, target, abi.encodeCall(_record.pause, ()), refusal);
    }

    function testFuzz_B6_itIsDeployedWithAnOwner(address owner) external {
        (bool success, ) = address(this).call(abi.encodeCall(this.deploy, (owner)));
        require(success == (owner != address(0)), "B6");
    }

    function testFuzz_B7_anOwnerThatAnswersAnythingOpensOnlyByTrue(address account, bytes calldata word, bool fails) external {
        bytes[4] memory answers = [bytes(word), abi.encode(true), abi.encode(uint256(2)), abi.encode(true, word)];
        for (uint256 i = 0; i < 4; ++i) {
            address owner = address(new AnyOwner(answers[i], fails));
            vm.assume(account != owner);
            IWholeBlockOTA record = _deployBlockOTA(owner);
            vm.prank(account);
            (bool paused, ) = address(record).call(abi.encodeCall(record.pause, ()));
            bool yes = !fails && answers[i].length > 31 && bytes32(answers[i]) == bytes32(uint256(1));
            require(paused == yes && record.paused() == yes, "B7: opened, or not opened");
            if (!yes) _expect(owner, address(record), abi.encodeCall(record.pause, ()), "");
        }
    }

    function testFuzz_B10_itTakesNoEther(uint64 amount, bytes calldata data) external {
        vm.deal(address(this), amount);
        (bool done, ) = address(_record).call{value: amount}("");
        require(!done, "B10: without data");
        bytes[3] memory calls = [data, abi.encodeCall(_record.pause, ()), abi.encodeCall(_record.latest, (PRODUCT))];
        for (uint256 i = 0; i < 3 && amount != 0; ++i) {
            (done, ) = address(_record).call{value: amount}(calls[i]);
            require(!done && address(_record).balance == 0, "B10");
        }
    }

    function testFuzz_R8_itTakesNoEther(uint64 amount, bytes calldata data) external {
        vm.deal(address(this), amount);
        (bool done, ) = address(_replication).call{value: amount}("");
        require(!done, "R8: without data");
        bytes[2] memory calls = [data, abi.encodeCall(_replication.propose, (PRODUCT, 1, type(uint40).max))];
        _record.publish(_release(1, 0x0800_0000, 1));
        for (uint256 i = 0; i < 2 && amount != 0; ++i) {
            (done, ) = address(_replication).call{value: amount}(calls[i]);
            require(!done && address(_replication).balance == 0, "R8");
        }
    }

    function testFuzz_R4_pagesOfAnyKindAreAnswered(uint256 from, uint256 count, uint64 first) external {
        _record.publish(_release(1, 0x0800_0000, 1));
        vm.prank(BROKER);
        _replication.propose(PRODUCT, 1, type(uint40).max);
        _replication.accept(1, BROKER, PRODUCT, 1, type(uint40).max);
        vm.prank(BROKER);
        _replication.announce(1, PRODUCT, 1, "https://broker.example");
        bool wanted = from == 0 && count != 0;
        require(_replication.replicas(PRODUCT, 1, from, count).length == (wanted ? 1 : 0), "R4");
        require(_replication.agreements(first, count).length == (first < 2 && count != 0 ? 1 : 0), "R4: agreements");
        require(_record.products(from, count).length == (wanted ? 1 : 0), "B9: products");
        require(_record.history(PRODUCT, first, count).length == (first < 2 && count != 0 ? 1 : 0), "B9: history");
    }

    function testFuzz_R7_anAddressHas1To256Bytes(uint16 length) external {
        length %= 600;
        _record.publish(_release(1, 0x0800_0000, 1));
        vm.prank(BROKER);
        _replication.propose(PRODUCT, 1, type(uint40).max);
        _replication.accept(1, BROKER, PRODUCT, 1, type(uint40).max);
        bytes memory refusal;
        if (length == 0 || length > 256) {
            refusal = abi.encodeWithSelector(IFirmwareReplication.InvalidUriLength.selector, length, 256);
        }
        bytes memory call = abi.encodeCall(_replication.announce, (1, PRODUCT, 1, string(new bytes(length))));
        _expect(BROKER, address(_replication), call, refusal);
    }

    function testFuzz_R9_aCallNamesTheRecordedAgreement(
        address broker,
        bytes32 product,
        uint64 version,
        uint40 expiresAt,
        uint8 same
    ) external {
        _record.publish(_release(1, 0x0800_0000, 1));
        vm.prank(BROKER);
        _replication.propose(PRODUCT, 1, type(uint40).max);
        // Each value is the recorded one in half of the runs.
        if (same & 1 == 0) broker = BROKER;
        if (same & 2 == 0) product = PRODUCT;
        if (same & 4 == 0) version = 1;
        if (same & 8 == 0) expiresAt = type(uint40).max;
        bytes memory differs = abi.encodeWithSelector(
            IFirmwareReplication.AgreementDiffers.selector,
            1,
            BROKER,
            PRODUCT,
            1,
            type(uint40).max
        );
        bool release = product == PRODUCT && version == 1;
        bool whole = release && broker == BROKER && expiresAt == type(uint40).max;
        bytes memory call = abi.encodeCall(_replication.accept, (1, broker, product, version, expiresAt));
        _expect(address(this), address(_replication), call, whole ? bytes("") : differs);
        call = abi.encodeCall(_replication.withdraw, (1, product, version));
        _expect(BROKER, address(_replication), call, release ? bytes("") : differs);
    }

    function testFuzz_itIsDeployedBesideAContract(address account) external {
        (bool success, ) = address(this).call(abi.encodeCall(this.deployReplication, (account)));
        require(success == (account.code.length != 0), "deployed beside no contract");
    }

    /// @notice Deploys BlockOTA; called externally, so that a failure can be caught.
    function deploy(address owner) external {
        _deployBlockOTA(owner);
    }

    /// @notice Deploys FirmwareReplication; called externally, so that a failure can be caught.
    function deployReplication(address record) external {
        _deploy("FirmwareReplication", abi.encode(record));
    }

    function _release(
        uint64 version,
        uint32 place,
        uint32 length
    ) private pure returns (IBlockOTA.Release[] memory releases) {
        releases = new IBlockOTA.Release[](1);
        (releases[0].product, releases[0].version, releases[0].sha256) = (PRODUCT, version, keccak256("image"));
        (releases[0].loadAddress, releases[0].size) = (place, length);
        if (length > 1 << 20) releases[0].dagRoot = keccak256("root");
    }
}
